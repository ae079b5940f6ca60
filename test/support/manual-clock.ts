/** A clock that stands still until it is moved. */
import type { Clock } from "../../src/domain/kernel/clock.ts"

/** See the file's comment. */
export class ManualClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1)

  now(): number {
    return this.#nowMs
  }

  /** Moves on by so many milliseconds. */
  advance(ms: number): void {
    this.#nowMs += ms
  }
}
