/** An outbox for the suites. */
import { randomUUID } from "node:crypto"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import type { NewOutboxEntry, OutboxEntry } from "../../src/domain/outbox/model.ts"
import type { OutboxBatch, OutboxStore } from "../../src/domain/outbox/ports.ts"

/** An outbox under test. */
export interface OutboxHarness {
  /** The outbox as one more daemon sees it. */
  another(): OutboxStore
  /** Adds entries in one transaction of their first tenant. With `fail` the transaction does not commit, and this rejects. */
  add(entries: readonly NewOutboxEntry[], fail?: Error): Promise<void>
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** Decides about leases and pauses; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

/** A topic that nobody has used. */
export function freshTopic(): string {
  return `topic-${randomUUID()}`
}

/** One entry; `n` tells it from others. */
export function outboxEntry(topic: string, tenant: TenantId, key: string, n: number): NewOutboxEntry {
  return { topic, tenant, key, opId: `${key}:${n}`, payload: new Uint8Array([0, 255, n % 256]) }
}

/** `count` entries of one key. */
export function outboxEntries(
  topic: string,
  tenant: TenantId,
  key: string,
  count: number,
): readonly NewOutboxEntry[] {
  return Array.from({ length: count }, (_, n) => outboxEntry(topic, tenant, key, n))
}

/** The effects that a batch or a list names. */
export function opIds(entries: readonly { readonly opId: string }[]): readonly string[] {
  return entries.map(({ opId }) => opId)
}

/** The ids of a batch's entries. */
export function idsOf({ entries }: OutboxBatch): readonly string[] {
  return entries.map(({ id }) => id)
}

/** A target that remembers what it was given, and finds what must not happen. */
export class Target {
  readonly delivered: OutboxEntry[] = []
  readonly problems: string[] = []
  readonly #busy = new Set<string>()
  readonly #last = new Map<string, bigint>()

  /** Takes a batch as a handler does, letting others run in between. */
  async take({ entries }: OutboxBatch): Promise<void> {
    const keys = new Set(entries.map(({ tenant, key }) => `${tenant} ${key}`))
    for (const key of keys) {
      if (this.#busy.has(key)) this.problems.push(`two workers on ${key}`)
      this.#busy.add(key)
    }
    for (const entry of entries) {
      const key = `${entry.tenant} ${entry.key}`
      const last = this.#last.get(key) ?? -1n
      if (BigInt(entry.id) <= last) this.problems.push(`${entry.opId} after ${last}`)
      this.#last.set(key, BigInt(entry.id))
      this.delivered.push(entry)
      await new Promise(setImmediate)
    }
    for (const key of keys) this.#busy.delete(key)
  }
}
