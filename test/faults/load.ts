/** Callers that go on through a fault and note, outside the daemon, what they were told. */
import { status } from "@grpc/grpc-js"
import { CallError } from "../support/grpc-client.ts"

/** Deadline of calls to the plane that suffers: short, so that a store that hangs is met often. */
export const DEADLINE_MS = 2_000
/** Deadline of calls to the other planes, which must not fail on a busy machine either. */
export const OTHERS_DEADLINE_MS = 20_000
const PACE_MS = 10
const AFTER_FAILURE_MS = 50

/** Reasons that promise that a write did not happen. */
const NOT_APPLIED: ReadonlySet<string> = new Set([
  "STORE_UNAVAILABLE",
  "OVERLOADED",
  "STORE_FULL",
  "STORE_AUTH",
  "SCHEMA_MISMATCH",
  "DEADLINE_EXCEEDED",
])

/** One kind of call that is made again and again. */
export interface Caller {
  readonly name: string
  readonly kind: "write" | "read" | "other"
  /** Makes one call. `id` is new each time; a write leaves exactly that behind. `true`: answered in a poorer way. */
  call(id: string): Promise<boolean | undefined>
}

/** What one call showed. Times by the monotonic clock, in milliseconds. */
interface Note {
  readonly start: number
  readonly end: number
  readonly failure: string | undefined
  readonly degraded: boolean
}

/** One caller and what it was told. */
export class Track {
  readonly caller: Caller
  readonly notes: Note[] = []
  readonly acknowledged = new Set<string>()
  readonly unknown = new Set<string>()
  readonly refused = new Set<string>()
  #number = 0

  constructor(caller: Caller) {
    this.caller = caller
  }

  /** Makes calls until `isOver`. Rejects when a call fails as no call may. */
  async run(tag: string, isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      const id = `${this.caller.name}-${tag}-${++this.#number}`
      const start = performance.now()
      const { failure, degraded } = await this.#once(id)
      this.notes.push({ start, end: performance.now(), failure, degraded })
      await new Promise((resolve) => setTimeout(resolve, failure === undefined ? PACE_MS : AFTER_FAILURE_MS))
    }
  }

  /** Successes that ended after `moment`. */
  successesSince(moment: number): number {
    return this.notes.filter(({ end, failure }) => end > moment && failure === undefined).length
  }

  /** When the first call that began after `moment` succeeded. */
  firstSuccess(moment: number): number | undefined {
    return this.notes.find(({ start, failure }) => start >= moment && failure === undefined)?.end
  }

  async #once(id: string): Promise<Pick<Note, "failure" | "degraded">> {
    try {
      const degraded = (await this.caller.call(id)) === true
      this.acknowledged.add(id)
      return { failure: undefined, degraded }
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      const known = NOT_APPLIED.has(error.reason)
      ;(known ? this.refused : this.unknown).add(id)
      return { failure: nameOf(error), degraded: false }
    }
  }
}

/** `CODE REASON`. The transport of a daemon that is behind ends a call at its deadline by itself and gives no reason. */
function nameOf({ code, reason }: CallError): string {
  return `${status[code] ?? code} ${reason === "" ? "(without a reason)" : reason}`
}

/** The value below which 99 of 100 lie; 0 of nothing. */
export function p99(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? 0
}
