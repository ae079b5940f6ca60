/** Waiting for locks, in the order of arrival at this daemon. */
import { DomainError } from "../kernel/errors.ts"
import { type CallScope, systemScope } from "../kernel/scope.ts"
import { endedScope, requireLive, tooManyWaiters, waitBudgetMs } from "../kernel/wake-ups.ts"
import type { LockAttempt, LockRequest, LockStore } from "./lock-model.ts"

/** How {@link LockQueue} waits. */
export interface LockQueueOptions {
  /** Most calls that may wait at once. Default: 10,000. */
  readonly maxWaiters?: number
  /** How often the first in a line looks for what other daemons did, in milliseconds. Default: 250. */
  readonly pollMs?: number
}

/** Locks with waiting. What has no waiting in it is on `store`. */
export class LockQueue {
  /** The locks themselves. */
  readonly store: LockStore
  readonly #lines = new Map<string, Waiter[]>()
  readonly #maxWaiters: number
  readonly #pollMs: number
  #waiting = 0

  constructor(store: LockStore, options: LockQueueOptions = {}) {
    this.store = store
    this.#maxWaiters = options.maxWaiters ?? 10_000
    this.#pollMs = options.pollMs ?? 250
  }

  /** Calls that wait at this daemon: for one lock, or for all. */
  waiting(scope?: CallScope, name?: string): number {
    if (scope === undefined || name === undefined) return this.#waiting
    return this.#lines.get(lockKey(scope, name))?.length ?? 0
  }

  /**
   * Takes the lock, waiting up to `waitMs` and never past the deadline. Nobody overtakes a waiter of this daemon. A call
   * that ends early leaves the lock free, except with a request_id, whose repetition may still collect the token.
   */
  async acquire(scope: CallScope, request: LockRequest, waitMs: number): Promise<LockAttempt> {
    requireLive(scope)
    const key = lockKey(scope, request.name)
    const end = performance.now() + waitBudgetMs(scope, waitMs)
    if (!this.#lines.has(key)) {
      const attempt = await this.#attempt(scope, request)
      if (attempt.acquired || performance.now() >= end) return attempt
    } else if (performance.now() >= end) {
      return { acquired: false, holder: await this.store.get(scope, request.name) }
    }
    return this.#inLine(scope, request, key, end)
  }

  /** {@link LockStore.release}; the first in line tries at once. */
  async release(scope: CallScope, name: string, token: bigint): Promise<void> {
    await this.store.release(scope, name, token)
    this.#lines.get(lockKey(scope, name))?.[0]?.nudge()
  }

  async #inLine(scope: CallScope, request: LockRequest, key: string, end: number): Promise<LockAttempt> {
    const waiter = this.#join(key, scope.signal)
    try {
      let last: LockAttempt = { acquired: false }
      for (;;) {
        const first = this.#lines.get(key)?.[0] === waiter
        if (first) {
          last = await this.#attempt(scope, request)
          if (last.acquired) return last
        }
        const left = end - performance.now()
        if (left <= 0) break
        await waiter.wait(first ? Math.min(left, this.#pause(last)) : left)
        if (scope.signal.aborted) throw endedScope(scope)
      }
      return { acquired: false, holder: last.holder ?? (await this.store.get(scope, request.name)) }
    } finally {
      this.#leave(key, waiter)
    }
  }

  #join(key: string, signal: AbortSignal): Waiter {
    if (this.#waiting >= this.#maxWaiters) throw tooManyWaiters(this.#maxWaiters)
    this.#waiting++
    const waiter = new Waiter(signal)
    const line = this.#lines.get(key)
    if (line === undefined) this.#lines.set(key, [waiter])
    else line.push(waiter)
    return waiter
  }

  #leave(key: string, waiter: Waiter): void {
    this.#waiting--
    const line = this.#lines.get(key) ?? []
    const place = line.indexOf(waiter)
    if (place >= 0) line.splice(place, 1)
    if (line.length === 0) this.#lines.delete(key)
    else if (place === 0) line[0]?.nudge()
  }

  // The attempt runs apart from the caller's signal: cut off in the middle it might hold the lock for a caller who has gone.
  async #attempt(scope: CallScope, request: LockRequest): Promise<LockAttempt> {
    const detached: CallScope = {
      ...systemScope(scope.tenant),
      actor: scope.actor,
      deadlineMs: Date.now() + ATTEMPT_MS,
      idempotency: scope.idempotency,
      trace: scope.trace,
    }
    const attempt = await this.store.tryAcquire(detached, request)
    if (!scope.signal.aborted) return attempt
    if (attempt.acquired && scope.idempotency === undefined)
      await this.#giveBack(detached, request.name, attempt)
    throw endedScope(scope)
  }

  async #giveBack(scope: CallScope, name: string, attempt: LockAttempt & { acquired: true }): Promise<void> {
    try {
      await this.release(scope, name, attempt.holder.token)
    } catch (error) {
      // Elapsed meanwhile, which is as good as released; and if the store is away the lease ends by itself.
      if (!(error instanceof DomainError)) throw error
    }
  }

  #pause(last: LockAttempt): number {
    const toExpiry = (last.holder?.expireMs ?? 0) - Date.now() + 1
    const poll = this.#pollMs * (0.8 + Math.random() * 0.4)
    return Math.min(Math.max(toExpiry, SHORTEST_PAUSE_MS), poll)
  }
}

const ATTEMPT_MS = 10_000
const SHORTEST_PAUSE_MS = 10

class Waiter {
  readonly #signal: AbortSignal
  #nudged = false
  #resolve: (() => void) | undefined

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  nudge(): void {
    this.#nudged = true
    this.#resolve?.()
  }

  async wait(ms: number): Promise<void> {
    if (!this.#nudged && !this.#signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#resolve = resolve
      const timer = setTimeout(resolve, ms)
      this.#signal.addEventListener("abort", resolve as () => void, { once: true })
      await promise
      clearTimeout(timer)
      this.#signal.removeEventListener("abort", resolve as () => void)
      this.#resolve = undefined
    }
    this.#nudged = false
  }
}

// Tenant ids have no spaces, so a key names one lock only.
function lockKey(scope: CallScope, name: string): string {
  return `${scope.tenant} ${name}`
}
