/** What the server and its driver answer, as reasons of the domain. The only place that knows their words. */
import { DomainError } from "../../domain/kernel/errors.ts"

/** Whether a call can change anything. */
export type Effect = "read" | "write"

/** How long callers should wait before they try a store again that is away, in milliseconds. */
const STORE_RETRY_MS = 1_000
const BUSY_RETRY_MS = 200

/** Nothing was applied. */
export function storeUnavailable(cause?: unknown): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the vector store cannot be reached; nothing was applied", {
    metadata: { store: "milvus" },
    retryDelayMs: STORE_RETRY_MS,
    cause,
  })
}

/** Sent, and nothing is known about the effect. */
export function outcomeUnknown(cause?: unknown): DomainError {
  return new DomainError(
    "OUTCOME_UNKNOWN",
    "the vector store did not say whether the change took place; repeat it with the same request_id, or read it back",
    { metadata: { store: "milvus" }, cause },
  )
}

/** The server refuses the daemon's credentials. */
export function refused(cause: unknown): DomainError {
  return new DomainError(
    "STORE_AUTH",
    "the vector store refused the daemon's credentials or their rights; check its configuration",
    { metadata: { store: "milvus" }, cause },
  )
}

/** The URL names a database that is not there. */
function databaseMissing(cause: unknown): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    "the vector store has no database of the configured name; make it there, or change stores.vectors.url",
    { metadata: { resource: "store", name: "vectors", state: "database-missing" }, cause },
  )
}

/** The server is too old for a call, or has left it out. */
export function unknownCall(cause?: unknown): DomainError {
  return new DomainError("UNSUPPORTED_BY_ENGINE", "the vector store does not know a call that this needs", {
    metadata: { engine: "milvus", capability: "call" },
    cause,
  })
}

/** INTERNAL, with what is wrong for the log. */
export function internal(cause: unknown): DomainError {
  return new DomainError("INTERNAL", "internal error", { cause })
}

const full = (cause: unknown) =>
  new DomainError("STORE_FULL", "the vector store has no room left; nothing was applied", {
    metadata: { store: "milvus" },
    cause,
  })
const busy = (cause: unknown) =>
  new DomainError("OVERLOADED", "the vector store takes no more work right now; nothing was applied", {
    metadata: { store: "milvus" },
    retryDelayMs: BUSY_RETRY_MS,
    cause,
  })

/** A failure that the server put into its answer. */
export class MilvusStatusError extends Error {
  override readonly name = "MilvusStatusError"
  readonly code: number
  readonly word: string

  constructor(code: number, word: string, reason: string) {
    super(reason)
    this.code = code
    this.word = word
  }

  /** The collection is not there, or not in memory. */
  get isMissing(): boolean {
    return this.code === 100 || this.code === 101 || this.word === "CollectionNotExists"
  }
}

/** By the server's codes since 2.3; those that say that nothing was done. */
const BY_CODE: Readonly<Record<number, (cause: unknown) => DomainError>> = {
  1: storeUnavailable,
  2: storeUnavailable,
  3: full,
  4: busy,
  7: full,
  8: busy,
  9: full,
  100: storeUnavailable,
  101: storeUnavailable,
  102: storeUnavailable,
  800: databaseMissing,
  1100: internal,
  1400: refused,
  1401: refused,
}
const BY_WORD: Readonly<Record<string, (cause: unknown) => DomainError>> = {
  RateLimit: busy,
  ForceDeny: full,
  MemoryQuotaExhausted: full,
  DiskQuotaExhausted: full,
  NotReadyServe: storeUnavailable,
  CollectionNotExists: storeUnavailable,
  PermissionDenied: refused,
}

/** Codes of gRPC that the transport or the server's edge answers. */
const GRPC_DEADLINE = 4
const GRPC_PERMISSION = 7
const GRPC_EXHAUSTED = 8
const GRPC_UNIMPLEMENTED = 12
const GRPC_UNAVAILABLE = 14
const GRPC_UNAUTHENTICATED = 16

/** A failure of a call that was handed to the driver. */
export function toDomainError(error: unknown, effect: Effect): DomainError {
  if (error instanceof DomainError) return error
  if (error instanceof MilvusStatusError) return fromStatus(error, effect)
  if (!isGrpcError(error)) return effect === "write" ? outcomeUnknown(error) : storeUnavailable(error)
  switch (error.code) {
    case GRPC_UNAUTHENTICATED:
    case GRPC_PERMISSION:
      return refused(error)
    case GRPC_EXHAUSTED:
      return busy(error)
    case GRPC_UNIMPLEMENTED:
      return unknownCall(error)
    default:
      return effect === "read" || isUnsent(error) ? storeUnavailable(error) : outcomeUnknown(error)
  }
}

function fromStatus(error: MilvusStatusError, effect: Effect): DomainError {
  const known = BY_CODE[error.code] ?? BY_WORD[error.word]
  if (known !== undefined) return known(error)
  if (/auth check failure|not authenticated/i.test(error.message)) return refused(error)
  if (/cannot parse expression|invalid parameter/i.test(error.message)) return internal(error)
  return effect === "write" ? outcomeUnknown(error) : storeUnavailable(error)
}

/** A call that the transport or the server's edge ended. */
export class CallError extends Error {
  override readonly name = "CallError"
  readonly code: number
  readonly details: string

  constructor(code: number, details: string) {
    super(details)
    this.code = code
    this.details = details
  }
}

interface GrpcError extends Error {
  readonly code: number
  readonly details: string
}

function isGrpcError(error: unknown): error is GrpcError {
  return error instanceof Error && "code" in error && typeof error.code === "number" && "details" in error
}

/** Whether the call certainly never left this process. */
function isUnsent({ code, details }: GrpcError): boolean {
  if (code === GRPC_UNAVAILABLE) {
    return /No connection established|ECONNREFUSED|Name resolution failed|ENOTFOUND/.test(details)
  }
  return code === GRPC_DEADLINE && !details.includes("remote_addr")
}
