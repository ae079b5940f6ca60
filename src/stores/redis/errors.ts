/** What the server, its driver and the socket below it throw, as reasons of the domain. The only place that knows their words. */
import { DomainError } from "../../domain/kernel/errors.ts"

/** How long callers should wait before they try a store again that is away, in milliseconds. */
const STORE_RETRY_MS = 1_000

/** Nothing was applied. */
export function storeUnavailable(cause?: unknown): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the cache store cannot be reached; nothing was applied", {
    metadata: { store: "redis" },
    retryDelayMs: STORE_RETRY_MS,
    cause,
  })
}

/** After close. */
export function storeClosed(): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the connection to the cache store is closed", {
    metadata: { store: "redis" },
  })
}

/** Sent, and nothing is known about the effect. */
export function outcomeUnknown(cause?: unknown): DomainError {
  return new DomainError(
    "OUTCOME_UNKNOWN",
    "the cache store did not say whether the change took place; repeat it with the same request_id, or read it back",
    { metadata: { store: "redis" }, cause },
  )
}

/** Past the deadline: before anything was sent, or while a read was out. */
export function deadlineExceeded(message: string): DomainError {
  return new DomainError("DEADLINE_EXCEEDED", message)
}

/** A failure of a command that was sent. `kind` says whether it could have changed anything. */
export function toDomainError(error: unknown, kind: "read" | "write"): DomainError {
  if (error instanceof DomainError) return error
  const word = replyWord(error)
  if (word === undefined) return kind === "write" ? outcomeUnknown(error) : storeUnavailable(error)
  return BY_WORD[word]?.(error) ?? new DomainError("INTERNAL", "internal error", { cause: error })
}

/** The first word of the server's own refusal, or undefined for what came from the driver or the socket. */
export function replyWord(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined
  // Some servers put words of their own before the error of a command inside a script.
  const found = /\b(OOM|NOSCRIPT|READONLY|NOPERM|MISCONF|NOREPLICAS)\b/.exec(error.message)
  return found?.[1] ?? error.message.split(" ", 1)[0]
}

/** Whether the server could not compile a script. */
export function isCompileError(error: unknown): boolean {
  return error instanceof Error && error.name === "ReplyError" && /compil/i.test(error.message)
}

const full = (cause: unknown) =>
  new DomainError("STORE_FULL", "the cache store has no memory left; nothing was applied", {
    metadata: { store: "redis" },
    cause,
  })
const refused = (cause: unknown) =>
  new DomainError(
    "STORE_AUTH",
    "the cache store refused the daemon's credentials or their rights; check its configuration",
    { metadata: { store: "redis" }, cause },
  )

const BY_WORD: Readonly<Record<string, (cause: unknown) => DomainError>> = {
  OOM: full,
  MISCONF: storeUnavailable,
  NOAUTH: refused,
  WRONGPASS: refused,
  NOPERM: refused,
  LOADING: storeUnavailable,
  BUSY: storeUnavailable,
  READONLY: storeUnavailable,
  MASTERDOWN: storeUnavailable,
  NOREPLICAS: storeUnavailable,
  CLUSTERDOWN: storeUnavailable,
  TRYAGAIN: storeUnavailable,
}
