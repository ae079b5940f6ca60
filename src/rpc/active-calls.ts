import { DomainError } from "../domain/kernel/errors.ts"
import type { Call } from "./call.ts"
import { Linked } from "./linked.ts"

/** The calls that wait for something. Calls answered synchronously are never among them. */
export class ActiveCalls {
  readonly #calls = new Linked<Call>()
  readonly #idle: (() => void)[] = []

  get size(): number {
    return this.#calls.size
  }

  add(call: Call): void {
    this.#calls.add(call)
  }

  /** Those that wait now. */
  all(): readonly Call[] {
    return this.#calls.all()
  }

  delete(call: Call): void {
    if (!this.#calls.delete(call) || this.#calls.size > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  /** Ends open streams and long polls (or, with `all`, every call) with DRAINING. */
  abort(all: boolean): void {
    for (const call of this.#calls.all()) {
      const { kind, longLived } = call.compiled
      if (all || longLived || kind !== "unary") {
        call.abort(new DomainError("DRAINING", "the daemon is shutting down; reconnect"))
      }
    }
  }

  /** Resolves when no call waits any more. */
  idle(): Promise<void> {
    if (this.#calls.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.push(resolve))
  }
}
