/** Usage in PostgreSQL. */
import type { RecordResult, UsageEvent } from "../../domain/billing/model.ts"
import type { UsageStore } from "../../domain/billing/ports.ts"
import { planBatch } from "../../domain/billing/usage-content.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { createGroupCommit, type Outcome } from "../group-commit.ts"
import type { Database, Tx } from "./database.ts"
import { lockedStep } from "./partitions.ts"
import { type FreshEvent, insertUsage } from "./usage-insert.ts"
import { aggregateUsage } from "./usage-query.ts"

type Batch = readonly UsageEvent[]

/** How often a group is tried again because another daemon recorded one of its ids at the same time. */
const MAX_ATTEMPTS = 5

/** Roughly what one event takes. */
const EVENT_BYTES = 256

/** The usage store. Batches that arrive while one is being written share the next transaction. */
export function createUsageStore(deps: { readonly database: Database; readonly clock: Clock }): UsageStore {
  const { database, clock } = deps
  const group = createGroupCommit<Batch, RecordResult>({
    key: (scope) => scope.tenant,
    maxItems: 64,
    maxBytes: 4 * 1024 * 1024,
    bytes: (batch) => batch.length * EVENT_BYTES,
    concurrency: 1,
    run: (scope, batches) => {
      const write = (): Promise<readonly Outcome<RecordResult>[]> =>
        database.transaction(scope, (tx) => recordBatches(tx, batches, new Date(clock.now())))
      return retried(write)
    },
  })
  return {
    record(scope, events) {
      // A stored answer belongs to one call, so such a call has a transaction of its own.
      return scope.idempotency === undefined ? group.add(scope, events) : recordAlone(deps, scope, events)
    },
    aggregate: (scope, query, page) => aggregateUsage(database, scope, query, page),
    retire: (scope, beforeMs, limit) => retireUsage(database, scope, beforeMs, limit),
    close: () => group.close(),
  }
}

async function retireUsage(
  database: Database,
  scope: CallScope,
  beforeMs: number,
  limit: number,
): Promise<number> {
  const gone = await lockedStep<bigint>(database, scope, {
    text: "select usage_retire($1::date, $2::int) as step",
    values: [new Date(beforeMs).toISOString().slice(0, 10), limit],
  })
  return Number(gone ?? 0)
}

function recordAlone(
  { database, clock }: { readonly database: Database; readonly clock: Clock },
  scope: CallScope,
  events: Batch,
): Promise<RecordResult> {
  const write = (): Promise<RecordResult> =>
    database.mutate(scope, "usage.record", async (tx) => {
      const [outcome] = await recordBatches(tx, [events], new Date(clock.now()))
      if (outcome?.ok === true) return outcome.value
      throw outcome?.error
    })
  return retried(write)
}

/** Another daemon took an id between the look and the insert: the transaction is undone and looks again. */
class LostRace extends Error {}

async function retried<T>(write: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await write()
    } catch (error) {
      const lost = error instanceof LostRace || (error instanceof Error && error.cause instanceof LostRace)
      if (!lost) throw error
      if (attempt === MAX_ATTEMPTS) {
        throw new DomainError("OVERLOADED", "these events are being recorded elsewhere as well; try again", {
          retryDelayMs: 100,
        })
      }
    }
  }
}

/** Each batch by itself is all or nothing; one that is refused leaves the others alone. */
async function recordBatches(tx: Tx, batches: readonly Batch[], now: Date): Promise<Outcome<RecordResult>[]> {
  const known = await knownHashes(tx, batches)
  const fresh: FreshEvent[] = []
  const outcomes = batches.map((batch): Outcome<RecordResult> => {
    try {
      const plan = planBatch(batch, (id) => known.get(id))
      for (const [id, item] of plan.fresh) {
        known.set(id, item.hash)
        fresh.push(item)
      }
      return { ok: true, value: { recorded: plan.recorded, duplicates: plan.duplicates } }
    } catch (error) {
      if (!(error instanceof DomainError)) throw error
      return { ok: false, error }
    }
  })
  if ((await insertUsage(tx, fresh, now)) < fresh.length) throw new LostRace()
  return outcomes
}

async function knownHashes(tx: Tx, batches: readonly Batch[]): Promise<Map<string, Uint8Array>> {
  const ids = new Set(batches.flatMap((batch) => batch.map(({ eventId }) => eventId)))
  const { rows } = await tx.query<{ event_id: string; body_hash: Buffer }>({
    name: "kp_usage_known",
    text: "select event_id, body_hash from keelplane.usage_ids where tenant = $1 and event_id = any ($2::text[])",
    values: [tx.scope.tenant, [...ids]],
  })
  return new Map(rows.map((row) => [row.event_id, row.body_hash]))
}
