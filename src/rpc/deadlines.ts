import type { ActiveCalls } from "./active-calls.ts"
import type { Call } from "./call.ts"

/** Calls with more time than this have no timer of their own. */
const NEAR_MS = 1_000
/** How often it is asked which of them have come near. */
const LOOK_MS = 500
/** How much before the deadline the answer leaves, so that the client need not reset the stream. */
const MARGIN_MS = 10
const MARGIN_SHARE = 0.1

/**
 * Watches over the deadlines of calls that wait. Nearly all of them are answered long before, so those whose deadline is far share
 * one timer, and each gets a precise one when its deadline comes near.
 */
export class Deadlines {
  readonly #active: ActiveCalls
  readonly #expire: (call: Call) => void
  #timer: NodeJS.Timeout | undefined

  /** `expire` is called once for a call whose time has come. */
  constructor(active: ActiveCalls, expire: (call: Call) => void) {
    this.#active = active
    this.#expire = expire
  }

  /** Expires the call just before its deadline. Once for a call, as soon as it has to wait. */
  watch(call: Call): void {
    // A call begins to wait when it has just arrived, so this errs by less than there is between near and the next look.
    if (call.deadlineMs - call.arrivedMs > NEAR_MS) this.#timer ??= this.#lookLater()
    else this.#arm(call, call.deadlineMs - Date.now())
  }

  /** Forgets a call that has ended. */
  unwatch(call: Call): void {
    if (call.deadlineTimer !== undefined) clearTimeout(call.deadlineTimer)
  }

  #arm(call: Call, remainingMs: number): void {
    const margin = Math.min(MARGIN_MS, remainingMs * MARGIN_SHARE)
    call.deadlineTimer = setTimeout(this.#expire, Math.max(0, remainingMs - margin), call)
  }

  #lookLater(): NodeJS.Timeout {
    return setTimeout(() => this.#look(), LOOK_MS).unref()
  }

  #look(): void {
    this.#timer = undefined
    const nowMs = Date.now()
    const calls = this.#active.all()
    for (const call of calls) {
      const remaining = call.deadlineMs - nowMs
      if (remaining <= NEAR_MS && call.deadlineTimer === undefined) this.#arm(call, remaining)
    }
    if (calls.length > 0) this.#timer ??= this.#lookLater()
  }
}
