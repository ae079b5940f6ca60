/** Runs round trips for a caller who may leave before the answer. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import { breaksConnection, outcomeUnknown, scopeEnded, serverError, toDomainError } from "./errors.ts"
import type { EncodedStatement, StatementResult } from "./exchange.ts"
import type { Session } from "./session.ts"

/** Stops what `session` is running, if the engine can; resolves when the request is out. */
export type Cancel = (session: Session) => Promise<void>

/** What a round trip may change by itself. */
export interface Flight {
  /** Whether its effect becomes durable with it, so that leaving early means not knowing. */
  readonly commits: boolean
  /** Whether the server's errors are passed on as they are, for code that looks at them. */
  readonly rawErrors?: boolean
  readonly cancel: Cancel | undefined
}

/**
 * One round trip. Answers the caller at once when its scope ends, while the statement goes on (or is cancelled) behind it:
 * `session` stays busy until {@link Session.settled}.
 */
export async function fly(
  session: Session,
  scope: CallScope,
  statements: readonly EncodedStatement[],
  flight: Flight,
): Promise<readonly StatementResult[]> {
  const { signal } = scope
  if (signal.aborted) throw scopeEnded(scope)
  const exchange = session.start(statements)
  let leave: (() => void) | undefined
  const left = new Promise<never>((_, reject) => {
    leave = () => {
      reject(exchange.sent && flight.commits ? outcomeUnknown(scopeEnded(scope)) : scopeEnded(scope))
      if (flight.cancel !== undefined) session.hold(flight.cancel(session))
    }
    signal.addEventListener("abort", leave, { once: true })
  })
  try {
    return await Promise.race([exchange.outcome, left])
  } catch (error) {
    if (flight.rawErrors === true && serverError(error) !== undefined && !breaksConnection(error)) throw error
    throw toDomainError(error, { commits: flight.commits, sent: exchange.sent })
  } finally {
    if (leave !== undefined) signal.removeEventListener("abort", leave)
  }
}

/**
 * Whether a statement can be given up without having changed anything. Conservative: a bare SELECT outside a transaction that
 * calls a function which writes has to say so.
 */
export function isRead(text: string): boolean {
  const known = reads.get(text)
  if (known !== undefined) return known
  const read =
    /^\s*(select|with|values|table|show)\b/i.test(text) &&
    !/\b(insert|update|delete|merge|into|nextval|setval)\b/i.test(text)
  if (reads.size < 10_000) reads.set(text, read)
  return read
}

const reads = new Map<string, boolean>()
