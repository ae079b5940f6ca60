/**
 * Bounds how much of the daemon one store can hold. A call takes a slot and keeps it until the store's work has really ended,
 * which may be long after its caller gave up: otherwise a store that hangs would be given more and more to do. Calls beyond the
 * slots wait in line, those beyond the line are shed at once. Tenants take turns, and where the line is full, whoever has most in it
 * makes room for others: nobody waits for, or is shed because of, somebody who wants too much.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import type { OperationClass } from "./breaker.ts"
import { storeIsAsked, waitsInLine } from "./deadline.ts"
import type { Decorate } from "./wrap.ts"

/** How many calls may be with the store, and how many may wait for that. */
export interface BulkheadSettings {
  readonly concurrency: number
  readonly queue: number
  /** Longest wait for a slot. */
  readonly waitMs: number
}

/** A bulkhead as it stands. */
export interface BulkheadState {
  readonly store: string
  readonly operationClass: OperationClass
  readonly inFlight: number
  readonly queued: number
  /** Calls that were refused since the start of the daemon. */
  readonly shed: number
  /** Calls that the store has answered, other than by a failure, since the start of the daemon. */
  readonly answered: number
}

/** What a bulkhead is made of. */
export interface BulkheadOptions {
  readonly store: string
  readonly operationClass: OperationClass
  readonly settings: BulkheadSettings
  /** 0 to 1, for jitter. */
  readonly random?: () => number
}

/** Longer timers overflow and fire at once. */
const MAX_TIMER_MS = 2_147_483_647
/** A wait ends this much before the call's deadline: whoever watches that would not know that the store was never asked. */
const MARGIN_MS = 1
const RETRY_MS = 100

interface Waiter {
  /** Takes the slot that became free. */
  take(): void
  /** Gives its place in line to another tenant's call. */
  yield(): void
}

/** See the top of this file. */
export class Bulkhead {
  readonly #options: BulkheadOptions
  /** By tenant, whoever's turn it is first; each in the order of arrival, and quick to leave from the middle. */
  readonly #lines = new Map<TenantId, Set<Waiter>>()
  /** Gives a slot back, to the first in line where there is one. */
  readonly leave: () => void
  /** The same, after an answer. */
  readonly answer: () => void
  #inFlight = 0
  #answered = 0
  #queued = 0
  #shed = 0

  constructor(options: BulkheadOptions) {
    this.#options = options
    this.leave = () => this.#leave()
    this.answer = () => {
      this.#answered += 1
      this.#leave()
    }
  }

  /** Takes a slot if one is free and nobody waits for it. */
  tryEnter(): boolean {
    if (this.#inFlight >= this.#options.settings.concurrency) return false
    this.#inFlight += 1
    return true
  }

  /**
   * Waits in line for a slot. Raises OVERLOADED when the line is full, or is needed by tenants with less in it, or the wait too long;
   * DEADLINE_EXCEEDED and CANCELLED when the call ends before its turn; the store has seen nothing of it then.
   */
  enter(scope: CallScope): Promise<void> {
    const { queue, waitMs } = this.#options.settings
    const { signal, tenant } = scope
    if (signal.aborted) return Promise.reject(ended(signal))
    const leftMs = scope.deadlineMs - Date.now() - MARGIN_MS
    if (leftMs <= 0) return Promise.reject(late())
    if (this.#queued >= queue && !this.#makeRoom(tenant)) return Promise.reject(this.#overloaded())
    return new Promise((resolve, reject) => {
      const refuse = (error: DomainError): void => {
        leaveLine()
        reject(error)
      }
      const aborted = (): void => refuse(ended(signal))
      const timer = setTimeout(
        () => refuse(leftMs < waitMs ? late() : this.#overloaded()),
        Math.min(leftMs, waitMs, MAX_TIMER_MS),
      )
      const leaveLine = (): void => {
        clearTimeout(timer)
        signal.removeEventListener("abort", aborted)
        this.#remove(tenant, waiter)
      }
      const waiter: Waiter = {
        take: () => {
          leaveLine()
          resolve()
        },
        yield: () => refuse(this.#overloaded()),
      }
      signal.addEventListener("abort", aborted, { once: true })
      this.#add(tenant, waiter)
    })
  }

  /** How it stands. */
  state(): BulkheadState {
    const { store, operationClass } = this.#options
    return {
      store,
      operationClass,
      inFlight: this.#inFlight,
      queued: this.#queued,
      shed: this.#shed,
      answered: this.#answered,
    }
  }

  #leave(): void {
    if (this.#queued === 0) {
      this.#inFlight -= 1
      return
    }
    const [turn] = this.#lines
    if (turn === undefined) throw new RangeError("calls wait, and in no line")
    const [tenant, line] = turn
    // Behind everybody else before it leaves, which forgets a line that is empty then.
    this.#lines.delete(tenant)
    this.#lines.set(tenant, line)
    const [first] = line
    first?.take()
  }

  #add(tenant: TenantId, waiter: Waiter): void {
    const line = this.#lines.get(tenant)
    if (line === undefined) this.#lines.set(tenant, new Set([waiter]))
    else line.add(waiter)
    this.#queued += 1
  }

  #remove(tenant: TenantId, waiter: Waiter): void {
    const line = this.#lines.get(tenant)
    if (line === undefined || !line.delete(waiter)) return
    if (line.size === 0) this.#lines.delete(tenant)
    this.#queued -= 1
  }

  /** Sheds the last call of whoever has most in the full line, where that is somebody else with more than the tenant would have. */
  #makeRoom(tenant: TenantId): boolean {
    const mine = this.#lines.get(tenant)?.size ?? 0
    // Somebody has at least the average, so that only those below it have to look.
    if ((mine + 1) * this.#lines.size > this.#queued) return false
    let longest: Set<Waiter> | undefined
    for (const line of this.#lines.values()) if (line.size > (longest?.size ?? mine + 1)) longest = line
    const last = longest === undefined ? undefined : [...longest].at(-1)
    last?.yield()
    return last !== undefined
  }

  #overloaded(): DomainError {
    this.#shed += 1
    const { store, operationClass, random = Math.random } = this.#options
    const limit = `${operationClass}s with the store ${store}`
    const value = this.#inFlight + this.#queued
    return new DomainError("OVERLOADED", `too many ${limit}: ${value}; nothing was done, retry later`, {
      metadata: { limit, value: String(value) },
      // Spread, or those that were shed together come back together.
      retryDelayMs: Math.round(RETRY_MS * (1 + random())),
    })
  }
}

/** Lets each call through its class's bulkhead. Streams stay open for hours and are bounded where they begin, per tenant. */
export function bulkhead(bulkheads: Readonly<Record<OperationClass, Bulkhead>>): Decorate {
  return (_name, kind, method) => {
    if (kind === "stream") return method
    const held = bulkheads[kind]
    // Explicit parameters instead of a rest array: this is on the path of every call.
    return (scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) => {
      if (held.tryEnter()) return holding(held, () => method(scope, a, b, c, d, e))
      waitsInLine(scope)
      return held.enter(scope).then(() => {
        // Its turn came with the end of others whose deadline was the same: the store would be asked for nothing.
        if (scope.deadlineMs - Date.now() <= MARGIN_MS) {
          held.leave()
          throw late()
        }
        storeIsAsked(scope)
        return holding(held, () => method(scope, a, b, c, d, e))
      })
    }
  }
}

function holding(held: Bulkhead, call: () => unknown): unknown {
  let result: unknown
  try {
    result = call()
  } catch (error) {
    held.leave()
    throw error
  }
  if (result instanceof Promise) result.then(held.answer, held.leave)
  else held.answer()
  return result
}

function late(): DomainError {
  return new DomainError(
    "DEADLINE_EXCEEDED",
    "the deadline passed before the store was asked; nothing was done",
  )
}

function ended(signal: AbortSignal): DomainError {
  const { reason } = signal as { reason: unknown }
  if (reason instanceof DomainError && reason.reason === "DEADLINE_EXCEEDED") return late()
  return reason instanceof DomainError
    ? reason
    : new DomainError("CANCELLED", "the call ended before the store was asked; nothing was done")
}
