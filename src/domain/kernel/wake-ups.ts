/**
 * Wake-ups inside one process: who commits a change wakes who waits for it. Only a hint that saves a poll: whoever waits
 * must look again by himself now and then, since another daemon's change wakes nobody here.
 */
import { DomainError } from "./errors.ts"
import type { CallScope } from "./scope.ts"

/** Why a wait ended. */
export type WaitEnd = "woken" | "elapsed" | "aborted"

/** A place in the line for some keys. Open it before looking, so that a change between look and wait is not missed. */
export interface Listener {
  /** Resolves when woken (also by a wake-up since the last wait), after `ms`, or when `signal` aborts. */
  wait(ms: number, signal: AbortSignal): Promise<WaitEnd>
  /** Leaves the line; an unused wake-up goes to the next one. Idempotent. */
  close(): void
}

/** A bounded set of listeners by key, woken in the order they came. */
export class WakeUps {
  readonly #maximum: number
  readonly #lines = new Map<string, Set<Place>>()
  #count = 0

  /** @param maximum most listeners at once; one more is OVERLOADED. */
  constructor(maximum: number) {
    this.#maximum = maximum
  }

  /** How many listeners there are; zero once every call has ended. */
  get size(): number {
    return this.#count
  }

  /** Joins the lines of `keys`. Throws OVERLOADED when there are too many listeners. */
  listen(keys: readonly string[]): Listener {
    if (this.#count >= this.#maximum) throw tooManyWaiters(this.#maximum)
    this.#count++
    const place = new Place((unused) => this.#leave(place, keys, unused))
    for (const key of keys) {
      const line = this.#lines.get(key)
      if (line === undefined) this.#lines.set(key, new Set([place]))
      else line.add(place)
    }
    return place
  }

  /** Wakes the first `count` listeners of `key` that are not awake yet. */
  wake(key: string, count = Number.POSITIVE_INFINITY): void {
    const line = this.#lines.get(key)
    if (line === undefined) return
    let left = count
    for (const place of line) {
      if (left <= 0) return
      if (place.wake(key)) left--
    }
  }

  #leave(place: Place, keys: readonly string[], unused: string | undefined): void {
    this.#count--
    for (const key of keys) {
      const line = this.#lines.get(key)
      line?.delete(place)
      if (line?.size === 0) this.#lines.delete(key)
    }
    if (unused !== undefined) this.wake(unused, 1)
  }
}

class Place implements Listener {
  readonly #left: (unused: string | undefined) => void
  #wokenBy: string | undefined
  #resolve: ((end: WaitEnd) => void) | undefined
  #closed = false

  constructor(left: (unused: string | undefined) => void) {
    this.#left = left
  }

  wake(key: string): boolean {
    if (this.#wokenBy !== undefined) return false
    this.#wokenBy = key
    this.#resolve?.("woken")
    return true
  }

  async wait(ms: number, signal: AbortSignal): Promise<WaitEnd> {
    if (signal.aborted) return "aborted"
    if (this.#wokenBy === undefined && ms > 0) {
      const end = await this.#sleep(ms, signal)
      if (end !== "woken") return end
    }
    if (this.#wokenBy === undefined) return "elapsed"
    this.#wokenBy = undefined
    return "woken"
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<WaitEnd> {
    const { promise, resolve } = Promise.withResolvers<WaitEnd>()
    this.#resolve = resolve
    const aborted = (): void => resolve("aborted")
    const timer = setTimeout(() => resolve("elapsed"), ms)
    signal.addEventListener("abort", aborted, { once: true })
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener("abort", aborted)
      this.#resolve = undefined
    }
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#left(this.#wokenBy)
  }
}

/** OVERLOADED: no further call may wait. */
export function tooManyWaiters(maximum: number): DomainError {
  return new DomainError("OVERLOADED", `already ${maximum} calls wait at this daemon; nothing was done`, {
    metadata: { limit: "waiters", value: String(maximum) },
    retryDelayMs: 1_000,
  })
}

/** The failure of a call whose scope has ended: DEADLINE_EXCEEDED or CANCELLED. */
export function endedScope(scope: CallScope): DomainError {
  const reason: unknown = scope.signal.aborted ? scope.signal.reason : undefined
  if (reason instanceof DomainError) return reason
  // Timers may be a moment early: where nobody cancelled, it was the deadline all the same.
  if (!scope.signal.aborted || Date.now() >= scope.deadlineMs) {
    return new DomainError("DEADLINE_EXCEEDED", "the deadline passed; nothing was done", { cause: reason })
  }
  return new DomainError("CANCELLED", "the call was cancelled", { cause: reason })
}

/** Throws when the scope has ended already. Touches the signal, so it is not for hot paths. */
export function requireLive(scope: CallScope): void {
  if (scope.signal.aborted || Date.now() >= scope.deadlineMs) throw endedScope(scope)
}

/**
 * How long a call may wait in milliseconds: what it asked for, but ending a little before its deadline, so that it still
 * gets its answer.
 */
export function waitBudgetMs(scope: CallScope, askedMs: number): number {
  const left = scope.deadlineMs - Date.now()
  const margin = Math.min(Math.max(left * MARGIN_PART, MARGIN_MIN_MS), MARGIN_MAX_MS)
  return Math.max(0, Math.min(askedMs, left - margin))
}

const MARGIN_PART = 0.1
const MARGIN_MIN_MS = 50
const MARGIN_MAX_MS = 1_000
