/** The outbox by days: what is over is dropped, and what is still owed outlives its day. */
import assert from "node:assert/strict"
import { it } from "node:test"
import { setTimeout } from "node:timers/promises"
import { PLATFORM_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import type { Database, SqlEngine } from "../../src/stores/postgres/index.ts"
import { appendOutbox } from "../../src/stores/postgres/outbox-append.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { dropOutboxDays, ensurePartitions } from "../../src/stores/postgres/partitions.ts"
import { PGLITE_SKIPS } from "../contract/exceptions.ts"
import { freshTopic, opIds, outboxEntry } from "../contract/outbox-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines } from "../engines/sql-suites.ts"

const platform = systemScope(PLATFORM_TENANT)
const DAY_MS = 86_400_000
const CLAIM = { max: 9, maxBytes: 1e6, leaseMs: 60_000 }
const FAULT = { reason: "INTERNAL", message: "no" }

/** Adds entries as if it were another time; their op ids are their numbers. */
async function addAt(database: Database, topic: string, tenant: string, keys: readonly string[], ms: number) {
  await database.query(platform, {
    text: `insert into outbox (topic, tenant, key, op_id, payload, trace_parent, created_at)
      select $1, $2, k.key, k.place::text, '\\x01', '', $4 from unnest($3::text[]) with ordinality as k(key, place)
      order by k.place`,
    values: [topic, tenant, keys, new Date(ms)],
  })
}

async function partitionsWith(database: Database, topic: string): Promise<readonly string[]> {
  const { rows } = await database.query<{ name: string }>(platform, {
    text: "select distinct o.tableoid::regclass::text as name from outbox o where o.topic = $1 order by 1",
    values: [topic],
  })
  return rows.map(({ name }) => name)
}

async function dropAll(database: Database, nowMs: number): Promise<number> {
  let dropped = 0
  for (let gone = 1; gone > 0; dropped += gone) gone = await dropOutboxDays(database, platform, nowMs)
  return dropped
}

function dayContract(open: () => Promise<SqlEngine>): void {
  it("drops a day that is over, and keeps what is claimed, parked or waiting in it, in its order", async () => {
    const { database } = await open()
    const store = createPostgresOutboxStore(database)
    const [topic, tenant] = [freshTopic(), freshTenant()]
    const then = Date.UTC(2016, 2, 10)
    await ensurePartitions(database, platform, then, 0)
    await addAt(database, topic, tenant, ["a", "b", "c", "a"], then + 1_000)
    assert.deepEqual(await partitionsWith(database, topic), ["outbox_p20160310"])
    const batch = await store.claim(platform, { topic, ...CLAIM, max: 3 })
    const [a, b, c] = batch.entries.map(({ id }) => id) as [string, string, string]
    await store.settle(platform, batch, { park: [{ id: b, fault: FAULT }] })

    assert.ok((await dropAll(database, Date.now())) >= 1)
    assert.deepEqual(await partitionsWith(database, topic), ["outbox_rest"])
    assert.deepEqual((await store.claim(platform, { topic, ...CLAIM })).entries, [], "a is under its lease")
    assert.equal(await store.settle(platform, batch, { done: [a], release: [c] }), 2)
    await database.transaction(systemScope(tenant), async (tx) =>
      appendOutbox(tx, [outboxEntry(topic, tenant, "a", 9)]),
    )
    const rest = await store.claim(platform, { topic, ...CLAIM })
    assert.deepEqual(opIds(rest.entries), ["3", "4", "a:9"])
    assert.equal(await store.settle(platform, rest, { done: rest.entries.map(({ id }) => id) }), 3)
    const parked = await store.listParked(platform, topic, { size: 9 })
    assert.deepEqual(
      parked.items.map(({ id }) => id),
      [b],
    )
  })

  it("keeps a day with more entries than can be moved while writers wait, until they are done", async () => {
    const { database } = await open()
    const [topic, tenant] = [freshTopic(), freshTenant()]
    const then = Date.UTC(2016, 4, 1)
    await ensurePartitions(database, platform, then, 0)
    await addAt(database, topic, tenant, Array(1_001).fill("k"), then)
    await dropAll(database, Date.now())
    assert.deepEqual(await partitionsWith(database, topic), ["outbox_p20160501"])
    await database.query(platform, { text: "delete from outbox where topic = $1", values: [topic] })
    assert.ok((await dropAll(database, Date.now())) >= 1)
  })

  it("never drops the day that it is, whatever a daemon's clock says, and makes the next one an hour before it", async () => {
    const { database } = await open()
    const today = Math.floor(Date.now() / DAY_MS) * DAY_MS
    await ensurePartitions(database, platform, today, 3)
    const made = async () => {
      const { rows } = await database.query<{ name: string }>(platform, {
        text: `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = 'outbox'::regclass order by 1`,
      })
      return rows.map(({ name }) => name)
    }
    const nameOf = (ms: number) => `outbox_p${new Date(ms).toISOString().slice(0, 10).replaceAll("-", "")}`
    await dropAll(database, Date.now() + 9 * DAY_MS)
    assert.deepEqual(await made(), [nameOf(today), "outbox_rest"])
    await ensurePartitions(database, platform, today + DAY_MS - 3_600_001, 3)
    assert.equal((await made()).length, 2)
    await ensurePartitions(database, platform, today + DAY_MS - 3_600_000, 3)
    assert.deepEqual(await made(), [nameOf(today), nameOf(today + DAY_MS), "outbox_rest"])
  })

  it("gives way to a writer who has not committed", async (t) => {
    const { database, capabilities } = await open()
    if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
    const [topic, tenant] = [freshTopic(), freshTenant()]
    await ensurePartitions(database, platform, Date.UTC(2016, 6, 1), 0)
    await database.transaction(systemScope(tenant), async (tx) => {
      await tx.query({
        text: `insert into outbox (topic, tenant, key, op_id, payload, trace_parent, created_at)
          values ($1, $2, 'k', 'x', '', '', '2016-07-01')`,
        values: [topic, tenant],
      })
      assert.equal(await dropOutboxDays(database, platform, Date.now()), 0)
    })
    // What gave way is rolled back behind its answer.
    while ((await dropOutboxDays(database, platform, Date.now())) === 0) await setTimeout(20)
    assert.deepEqual(await partitionsWith(database, topic), ["outbox_rest"])
  })
}

onSqlEngines(dayContract)
