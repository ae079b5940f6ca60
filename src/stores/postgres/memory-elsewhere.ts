/** What the registry in SQL does for collections whose records, or copies of them, are in a vector store. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { DirectLedger } from "../../domain/memory/direct-ledger.ts"
import { MIRROR_TOPIC, type MirrorSource, mirrorChanges, owedIds } from "../../domain/memory/mirror.ts"
import { ALL_PARTS } from "../../domain/memory/model.ts"
import type { OutboxSignals } from "../../domain/outbox/signals.ts"
import type { Database } from "./database.ts"
import { isLive, type RecordRow, recordColumns, toRecord } from "./memory-rows.ts"
import { appendOutbox } from "./outbox-append.ts"

/** Rejections that only say that nothing was kept. */
class NothingKept extends Error {}

/** The ledger in `database`. Answers live as long as those of every other mutation there. */
export function createDirectLedger(database: Database): DirectLedger {
  return {
    revisions: async (scope, { id, ref }, count) => {
      const { rows } = await database.transaction(scope, (tx) =>
        tx.query<{ revision: bigint }>({
          name: "memory_direct_revisions",
          text: `select nextval('memory_revision') as revision from generate_series(1, $3)
            where exists (select from memory_collections where tenant = $1 and key = $2::bigint)`,
          values: [scope.tenant, ref, Math.max(1, count)],
        }),
      )
      if (rows.length === 0) throw notFound("collection", id)
      return rows.slice(0, count).map(({ revision }) => revision)
    },
    recall: async <T>(scope: Parameters<DirectLedger["recall"]>[0], step: string) => {
      try {
        const value = await database.mutate<T>(scope, step, () => Promise.reject(new NothingKept()))
        return { value }
      } catch (error) {
        if (isNothing(error)) return undefined
        throw error
      }
    },
    keep: (scope, step, value) => database.mutate(scope, step, async () => value),
  }
}

function isNothing(error: unknown): boolean {
  return error instanceof NothingKept || (error instanceof Error && error.cause instanceof NothingKept)
}

/** Records and debts in `database`. `outbox` hears of new debts. */
export function createMirrorSource(
  database: Database,
  clock: Clock,
  outbox: OutboxSignals | undefined,
): MirrorSource {
  return {
    owe: async (scope, place, ids) => {
      await database.transaction(scope, async (tx) =>
        appendOutbox(tx, mirrorChanges(scope.tenant, place, ids)),
      )
      outbox?.committed(MIRROR_TOPIC)
    },
    nextMirrored: async (scope, after) => {
      const { rows } = await database.query<{ tenant: string; id: string; key: bigint }>(scope, {
        name: "memory_next_mirrored",
        text: `select tenant, id, key from memory_collections
          where storage_mode = 'MIRRORED' and key > $1::bigint order by key limit 1`,
        values: [after ?? "0"],
      })
      return rows.map(({ tenant, id, key }) => ({ tenant, id, ref: key.toString() }))[0]
    },
    read: async (scope, ref, ids) => {
      const { rows } = await database.query<RecordRow>(scope, {
        text: `select ${recordColumns(ALL_PARTS)} from memory_records r
          where r.tenant = $1 and r.collection_key = $2::bigint and ${isLive(3)} and r.id = any($4::text[])`,
        values: [scope.tenant, ref, new Date(clock.now()), ids],
      })
      return rows.map(toRecord)
    },
    owed: async (scope, ref, limit) => {
      const { rows } = await database.query<{ payload: Buffer }>(scope, {
        name: "memory_mirror_owed",
        text: "select payload from keelplane.outbox where tenant = $1 and topic = $2 and key = $3 order by id limit $4",
        values: [scope.tenant, MIRROR_TOPIC, ref, limit + 1],
      })
      const ids = new Set(rows.flatMap(({ payload }) => owedIds(payload)))
      return rows.length > limit || ids.size > limit ? undefined : [...ids]
    },
  }
}
