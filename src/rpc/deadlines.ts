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
  readonly #far = new Set<Call>()
  readonly #expire: (call: Call) => void
  #timer: NodeJS.Timeout | undefined

  /** `expire` is called once for a call whose time has come. */
  constructor(expire: (call: Call) => void) {
    this.#expire = expire
  }

  /** Expires the call just before its deadline, or now where that has passed. Once for a call. */
  watch(call: Call, nowMs: number): void {
    const remaining = call.deadlineMs - nowMs
    if (remaining <= NEAR_MS) {
      this.#arm(call, remaining)
      return
    }
    this.#far.add(call)
    this.#timer ??= setTimeout(() => this.#look(), LOOK_MS).unref()
  }

  /** Forgets a call that has ended. */
  unwatch(call: Call): void {
    if (call.deadlineTimer === undefined) this.#far.delete(call)
    else clearTimeout(call.deadlineTimer)
  }

  #arm(call: Call, remainingMs: number): void {
    const margin = Math.min(MARGIN_MS, remainingMs * MARGIN_SHARE)
    call.deadlineTimer = setTimeout(this.#expire, Math.max(0, remainingMs - margin), call)
  }

  #look(): void {
    this.#timer = undefined
    const nowMs = Date.now()
    for (const call of this.#far) {
      const remaining = call.deadlineMs - nowMs
      if (remaining > NEAR_MS) continue
      this.#far.delete(call)
      this.#arm(call, remaining)
    }
    if (this.#far.size > 0) this.#timer = setTimeout(() => this.#look(), LOOK_MS).unref()
  }
}
