/** What clients asked and were answered, in the form that the checker reads. */
import { CallError } from "../support/grpc-client.ts"

/** One operation. Times are microseconds of this process's monotonic clock. */
export interface Operation {
  readonly kind: string
  /** The object; objects know nothing of each other. */
  readonly key: string
  readonly client: number
  readonly call: number
  /** -1: nobody knows whether, and when, it took place. */
  readonly return: number
  readonly op: string
  /** The revision, version or token that was named. */
  readonly expected?: number | undefined
  readonly value?: string | undefined
  /** Quantity, or lease in microseconds. */
  readonly amount?: number | undefined
  readonly limit?: number | undefined
  /** Whether it changed anything. */
  readonly applied: boolean
  /** The revision, version, token or sum that was answered. */
  readonly revision: number
  /** What was read. */
  readonly found?: string | undefined
}

/** What a client asks for. */
export type Asked = Pick<Operation, "op" | "expected" | "value" | "amount" | "limit">

/** What it is told. */
export type Told = Pick<Operation, "applied" | "revision" | "found">

/** Reasons that promise that nothing was changed, and never will be. */
const NOT_APPLIED: ReadonlySet<string> = new Set([
  "STORE_UNAVAILABLE",
  "OVERLOADED",
  "STORE_FULL",
  "STORE_AUTH",
  "DRAINING",
  "DEADLINE_EXCEEDED",
])

/** Codes with which an outcome may be unknown. Anything else is an answer that no client should have had. */
const UNKNOWN_CODES: ReadonlySet<number> = new Set([1, 2, 4, 13, 14])
const ATTEMPTS = 6

/** How a call ended: with an answer, for certain without effect, or nobody knows. */
type Ending = { readonly told: Told } | "not applied" | "unknown"

/** A growing history. */
export class History {
  readonly operations: Operation[] = []
  readonly #unknown = new Map<string, number>()

  /** How many operations on the object have an unknown outcome: each doubles what the checker has to think of. */
  unknowns(key: string): number {
    return this.#unknown.get(key) ?? 0
  }

  /**
   * Makes a call and notes what came of it. One that was not applied for certain leaves no trace: where the daemon was wrong about that,
   * what others read shows it. With `again` the call is repeated, as the same one, while nobody knows or nothing was applied.
   */
  async note(
    place: Pick<Operation, "kind" | "key" | "client">,
    asked: Asked,
    attempt: () => Promise<Told | undefined>,
    again: boolean,
  ): Promise<Told | undefined> {
    const call = now()
    let unsure = false
    for (let tries = again ? ATTEMPTS : 1; tries > 0; tries--) {
      const ending = await endingOf(attempt)
      if (typeof ending === "object") {
        this.operations.push({ ...place, ...asked, call, return: now(), ...ending.told })
        return ending.told
      }
      unsure ||= ending === "unknown"
    }
    const reads = asked.op === "read" || asked.op === "get"
    if (unsure && !reads) {
      this.operations.push({ ...place, ...asked, call, return: -1, applied: false, revision: 0 })
      this.#unknown.set(place.key, this.unknowns(place.key) + 1)
    }
    return undefined
  }
}

async function endingOf(attempt: () => Promise<Told | undefined>): Promise<Ending> {
  try {
    const told = await attempt()
    return told === undefined ? "not applied" : { told }
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    if (NOT_APPLIED.has(error.reason)) return "not applied"
    if (UNKNOWN_CODES.has(error.code) || error.reason === "REQUEST_IN_PROGRESS") return "unknown"
    throw error
  }
}

/** Microseconds of the clock of histories. */
export function now(): number {
  return Math.floor(performance.now() * 1_000)
}

/** Turns refusals that are answers into them: the reason's handler says what the client was told. */
export async function answering(
  work: () => Promise<Told>,
  refusals: Readonly<Record<string, (error: CallError) => Told>>,
): Promise<Told> {
  try {
    return await work()
  } catch (error) {
    const handler = error instanceof CallError ? refusals[error.reason] : undefined
    if (handler === undefined) throw error
    return handler(error as CallError)
  }
}
