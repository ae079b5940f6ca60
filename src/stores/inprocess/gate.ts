/** What every call of the in-process engines passes first. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"

/** Refuses calls that come too late. */
export class Gate {
  readonly #clock: Clock
  #closed = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The time of the call. Raises STORE_UNAVAILABLE after close and DEADLINE_EXCEEDED past the deadline. */
  enter(scope: CallScope): number {
    if (this.#closed) {
      throw new DomainError("STORE_UNAVAILABLE", "the in-process cache is closed", {
        metadata: { store: "inprocess" },
      })
    }
    const nowMs = this.#clock.now()
    if (nowMs >= scope.deadlineMs) {
      throw new DomainError(
        "DEADLINE_EXCEEDED",
        "the deadline passed before the cache was asked; nothing was done",
      )
    }
    return nowMs
  }

  /** Refuses everything from now on. */
  close(): void {
    this.#closed = true
  }
}
