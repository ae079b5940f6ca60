/** One batch through its handler: what is done, what has to come again, and what is hopeless. */
import { DomainError, type Reason } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { OutboxEntry, OutboxFault } from "./model.ts"
import type { OutboxBatch, OutboxRetry, OutboxSettlement } from "./ports.ts"

/**
 * Applies entries of one topic to their target. They come at least once and in the order of their keys; several keys and
 * tenants may be mixed. Resolving means that all of them are durable. Rejecting says nothing about any of them: the whole batch
 * or parts of it come again. It must end soon after the scope's signal aborts, which is before the lease does.
 */
export type OutboxHandler = (scope: CallScope, batch: OutboxBatch) => Promise<void>

/** When an entry is tried again, and when no more. */
export interface DeliveryPolicy {
  /** Strikes after which an entry is parked. */
  readonly maxStrikes: number
  /** The pause before the next try of an entry, by how often it has failed, 1 for the first time. */
  delayMs(failures: number): number
}

/** The end of a delivery. */
export interface Delivered {
  readonly settlement: Required<OutboxSettlement>
  /** The target was away: nothing else need be tried for a while. */
  readonly away: boolean
}

/** Failures that tell about the target or the moment, not about the entry; with them an entry is tried for ever. */
const AWAY: ReadonlySet<Reason> = new Set<Reason>([
  "STORE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "OVERLOADED",
  "DRAINING",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "STORE_AUTH",
  "STORE_FULL",
  "SCHEMA_MISMATCH",
  "REQUEST_IN_PROGRESS",
])

/**
 * Hands the batch to its handler. A batch that fails because of something in it is halved until the entries at fault are
 * alone, so that one of them does not stop the others; what follows such an entry in its key goes back untried.
 */
export async function deliver(
  scope: CallScope,
  batch: OutboxBatch,
  handler: OutboxHandler,
  policy: DeliveryPolicy,
): Promise<Delivered> {
  const delivery = new Delivery(scope, batch, handler, policy)
  await delivery.run(batch.entries)
  return { settlement: delivery.settlement, away: delivery.away }
}

class Delivery {
  readonly settlement = {
    done: [] as string[],
    retry: [] as OutboxRetry[],
    park: [] as { id: string; fault: OutboxFault }[],
    release: [] as string[],
  }
  away = false
  readonly #scope: CallScope
  readonly #batch: OutboxBatch
  readonly #handler: OutboxHandler
  readonly #policy: DeliveryPolicy
  readonly #heldUp = new Set<string>()

  constructor(scope: CallScope, batch: OutboxBatch, handler: OutboxHandler, policy: DeliveryPolicy) {
    this.#scope = scope
    this.#batch = batch
    this.#handler = handler
    this.#policy = policy
  }

  async run(given: readonly OutboxEntry[]): Promise<void> {
    const entries = given.filter((entry) => !this.away && !this.#heldUp.has(orderOf(entry)))
    const kept = new Set(entries)
    this.settlement.release.push(...given.filter((entry) => !kept.has(entry)).map(({ id }) => id))
    const [first] = entries
    if (first === undefined) return
    try {
      await this.#handler(this.#scope, { ...this.#batch, entries })
      this.settlement.done.push(...entries.map(({ id }) => id))
    } catch (error) {
      if (this.#scope.signal.aborted || isAway(error)) this.#putOff(entries, error)
      else if (entries.length === 1) this.#strike(first, error)
      else {
        const half = Math.ceil(entries.length / 2)
        await this.run(entries.slice(0, half))
        await this.run(entries.slice(half))
      }
    }
  }

  #putOff(entries: readonly OutboxEntry[], error: unknown): void {
    this.away = true
    const { aborted, reason } = this.#scope.signal
    if (aborted && reason instanceof DomainError && reason.reason === "CANCELLED") {
      // The relay is being stopped, which is no failure of anything.
      this.settlement.release.push(...entries.map(({ id }) => id))
      return
    }
    const fault = faultOf(error)
    for (const { id, failures } of entries) {
      const delayMs = this.#policy.delayMs(failures + 1)
      this.settlement.retry.push({ id, delayMs, strike: false, fault })
    }
  }

  #strike(entry: OutboxEntry, error: unknown): void {
    const { id, failures, strikes } = entry
    const fault = faultOf(error)
    if (strikes + 1 >= this.#policy.maxStrikes) {
      this.settlement.park.push({ id, fault })
      return
    }
    this.#heldUp.add(orderOf(entry))
    this.settlement.retry.push({ id, delayMs: this.#policy.delayMs(failures + 1), strike: true, fault })
  }
}

/** What is kept in order. */
function orderOf({ tenant, key }: OutboxEntry): string {
  return `${tenant} ${key}`
}

function isAway(error: unknown): boolean {
  return error instanceof DomainError && AWAY.has(error.reason)
}

const MAX_MESSAGE = 500

/** Messages of DomainErrors are made to be sent; anything else may hold anything. */
function faultOf(error: unknown): OutboxFault {
  if (!(error instanceof DomainError)) return { reason: "INTERNAL", message: "internal error" }
  return { reason: error.reason, message: error.message.slice(0, MAX_MESSAGE) }
}
