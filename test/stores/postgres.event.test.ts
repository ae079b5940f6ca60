/** The event suites on PGlite and on PostgreSQL servers. */
import assert from "node:assert/strict"
import { it } from "node:test"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { Database } from "../../src/stores/postgres/database.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { eventContract } from "../contract/event.contract.ts"
import { eventDaemonsContract } from "../contract/event-daemons.contract.ts"
import { eventLogContract } from "../contract/event-log.contract.ts"
import { append, type EventHarness, events, readAll } from "../contract/event-support.ts"
import { eventTogetherContract } from "../contract/event-together.contract.ts"
import { PGLITE_SKIPS } from "../contract/exceptions.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines, sqlEnginesAndPooler } from "../engines/sql-suites.ts"
import { until } from "../support/until.ts"

function movableClock() {
  let now = Date.now()
  return {
    now: () => now,
    set: (ms: number) => {
      now = ms
    },
    advance: (ms: number) => {
      now += ms
    },
  }
}

/** A store whose transactions commit only when told. */
function heldStore(database: Database, gate: Promise<void>, written: () => void) {
  const held: Database = {
    query: (scope, statement) => database.query(scope, statement),
    pipeline: (scope, statements) => database.pipeline(scope, statements),
    mutate: (scope, operation, work) => database.mutate(scope, operation, work),
    transaction: (scope, work) =>
      database.transaction(scope, async (tx) => {
        const result = await work(tx)
        written()
        await gate
        return result
      }),
    close: () => database.close(),
  }
  return createPostgresEventStore(held, { clock: systemClock, concurrency: 1 })
}

/** How many transactions wait for another one's rows. */
async function waiting(database: Database): Promise<number> {
  const { rows } = await database.query<{ n: number }>(systemScope(), {
    text: "select count(*)::int as n from pg_locks where locktype = 'transactionid' and not granted",
  })
  return rows[0]?.n ?? 0
}

onSqlEngines(
  (open: () => Promise<SqlEngine>) => {
    const make = async (): Promise<EventHarness> => {
      const { database, capabilities } = await open()
      const clock = movableClock()
      const { concurrency } = capabilities
      const another: EventHarness["another"] = (own = clock) =>
        createPostgresEventStore(database, { clock: own, concurrency })
      return { store: another(), another, freshTenant, clock }
    }
    eventContract(make)
    eventTogetherContract(make, true)
    eventLogContract(make)
    eventDaemonsContract(make)

    it("holds the feed back while an older transaction may still commit before what is there", async (t) => {
      const { database, capabilities } = await open()
      if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
      const scope = systemScope(freshTenant())
      const [gate, written] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      // With a request_id the writes are not left for the commit's round trip, so that they are there before it.
      const idempotency = { method: "test", requestId: "slow", bodyHash: Buffer.alloc(32) }
      const held = heldStore(database, gate.promise, written.resolve)
      const slow = append(held, { ...scope, idempotency }, "slow", events(1))
      await written.promise
      const store = createPostgresEventStore(database, { clock: systemClock, concurrency: 2 })
      await append(store, scope, "fast", events(1))
      const early = await store.readFeed(scope, { types: [], after: undefined, limit: 10 })
      const end = await store.feedEnd(scope)
      gate.resolve()
      await slow
      for (const after of [early.end, end]) {
        const late = await store.readFeed(scope, { types: [], after, limit: 10 })
        assert.deepEqual(
          [...early.events, ...late.events].map(({ event }) => event.stream),
          ["slow", "fast"],
        )
      }
    })

    it("appends behind rows of streams that are changed meanwhile by somebody who has not locked them", async (t) => {
      const { database, capabilities } = await open()
      if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
      const scope = systemScope(freshTenant())
      const store = createPostgresEventStore(database, { clock: systemClock, concurrency: 4 })
      for (const group of [["alone"], ["first", "second", "new"]]) {
        await Promise.all(group.slice(0, 2).map((stream) => append(store, scope, stream, events(2))))
        const appended = await database.transaction(scope, async (tx) => {
          await tx.query({
            text: "update streams set swept_before = swept_before where tenant = $1",
            values: [scope.tenant],
          })
          const appends = group.map((stream) => append(store, scope, stream, events(1)))
          await until("an append waits for the row", async () => (await waiting(database)) > 0)
          return appends
        })
        const revisions = (await Promise.all(appended)).map(({ firstRevision }) => firstRevision)
        assert.deepEqual(
          revisions,
          group.map((stream) => (stream === "new" ? 1n : 3n)),
        )
        for (const stream of group) {
          const { head } = await store.getStream(scope, stream)
          assert.equal(head, stream === "new" ? 1n : 3n)
          const last = await readAll(store, scope, stream)
          assert.equal(last.at(-1)?.revision, head)
        }
      }
    })
  },
  await sqlEnginesAndPooler(),
)
