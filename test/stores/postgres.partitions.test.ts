/** Partitions on every SQL engine: made ahead, filled from the default one, dropped as a whole, and an upgrade that keeps its rows. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { describe, it } from "node:test"
import { setTimeout } from "node:timers/promises"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, PLATFORM_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import type { Database } from "../../src/stores/postgres/database.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { migrate, readMigrations } from "../../src/stores/postgres/migrate.ts"
import { dropExpired, ensurePartitions } from "../../src/stores/postgres/partitions.ts"
import { PgliteStream } from "../../src/stores/postgres/pglite-stream.ts"
import { Session } from "../../src/stores/postgres/session.ts"
import { assertIsolation } from "../../src/stores/postgres/tenancy.ts"
import { entry } from "../contract/audit-support.ts"
import { PGLITE_SKIPS } from "../contract/exceptions.ts"
import { freshTenant } from "../engines/pglite.ts"
import { postgresServers } from "../engines/postgres.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

const platform = systemScope(PLATFORM_TENANT)
const MARCH_2016 = Date.UTC(2016, 2, 10)

/** Statements of the schema's owner, in one transaction. */
async function asOwner(database: Database, ...statements: string[]): Promise<void> {
  await database.transaction(platform, async (tx) => {
    await tx.query({ text: "set local role none" })
    for (const text of statements) await tx.query({ text })
  })
}

async function partitionOf(database: Database, table: string, tenant: string): Promise<readonly string[]> {
  const { rows } = await database.query<{ name: string }>(platform, {
    text: `select distinct a.tableoid::regclass::text as name from ${table} a where a.tenant = $1 order by 1`,
    values: [tenant],
  })
  return rows.map(({ name }) => name)
}

/** A log whose clock the test turns. */
async function auditLog(open: () => Promise<SqlEngine>) {
  const { database } = await open()
  const clock = heldClock()
  const store = createPostgresAuditStore(database, { clock })
  const recordAt = (scope: CallScope, ms: number) => {
    clock.advance(ms - clock.now())
    return store.record(scope, [entry(), entry()])
  }
  return { database, store, recordAt }
}

function makingContract(open: () => Promise<SqlEngine>): void {
  it("makes what is missing once, closed to the daemon's role and behind forced row-level security", async () => {
    const { database } = await open()
    const made = await ensurePartitions(database, platform, Date.now(), 2)
    assert.ok(made >= 3, `${made} were made`)
    assert.equal(await ensurePartitions(database, platform, Date.now(), 2), 0)
    await assertIsolation(database)
    const { rows } = await database.query<{ name: string }>(platform, {
      text: `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'keelplane' and c.relispartition and c.relkind = 'r'
          and (not c.relforcerowsecurity or has_table_privilege(c.oid, 'select, insert, update, delete, truncate'))`,
    })
    assert.deepEqual(rows, [])
  })

  it("moves what the default partition has meanwhile, in an unbroken chain that still cannot be changed", async () => {
    const { database, store, recordAt } = await auditLog(open)
    const scope = systemScope(freshTenant())
    await recordAt(scope, Date.UTC(2031, 4, 31))
    await recordAt(scope, Date.UTC(2031, 5, 1))
    assert.deepEqual(await partitionOf(database, "audit_records", scope.tenant), ["audit_records_rest"])
    // Two months of the audit log and of usage, and a day of the outbox, which is made late.
    assert.equal(await ensurePartitions(database, platform, Date.UTC(2031, 4, 1), 1), 5)
    assert.deepEqual(await partitionOf(database, "audit_records", scope.tenant), [
      "audit_records_p203105",
      "audit_records_p203106",
    ])
    const verdict = await verifyAudit(scope, store, { maxDays: 9 })
    assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, 4n])
    for (const text of [
      "delete from audit_records_p203105",
      "update audit_records_p203106 set actor = 'x'",
      "truncate audit_records_p203105",
    ]) {
      await assert.rejects(asOwner(database, text), DomainError, text)
    }
  })
}

function auditContract(open: () => Promise<SqlEngine>): void {
  it("drops a month of the audit log as a whole; heads stay and the rest verifies", async () => {
    const { database, store, recordAt } = await auditLog(open)
    await ensurePartitions(database, platform, MARCH_2016, 0)
    const [one, two] = [systemScope(freshTenant()), systemScope(freshTenant())]
    for (const scope of [one, two]) {
      await recordAt(scope, MARCH_2016)
      await recordAt(scope, MARCH_2016 + 86_400_000)
      await recordAt(scope, Date.now())
    }
    assert.equal(await store.retire(one, new ByTenant("2016-04-01"), 0), 0)
    await assert.rejects(partitionOf(database, "audit_records_p201603", one.tenant), DomainError)
    assert.equal(await store.retire(platform, new ByTenant("2016-03-31"), 0), 0)
    assert.equal(await store.retire(platform, new ByTenant("2016-04-01"), 1), 4)
    for (const scope of [one, two]) {
      const { firstBreak, days, recordsChecked } = await verifyAudit(scope, store, { maxDays: 9 })
      assert.deepEqual([firstBreak, recordsChecked], [undefined, 2n])
      assert.deepEqual(
        days.map(({ retired, records }) => [retired, records]),
        [
          [true, 2n],
          [true, 2n],
          [false, 2n],
        ],
      )
    }
  })

  it("keeps a month with anybody's newest day, but for its other days, and every month younger than seven years", async () => {
    const { database, store, recordAt } = await auditLog(open)
    await ensurePartitions(database, platform, Date.UTC(2014, 0, 1), 0)
    const [gone, stays] = [systemScope(freshTenant()), systemScope(freshTenant())]
    await recordAt(stays, Date.UTC(2014, 0, 5))
    await recordAt(gone, Date.UTC(2014, 0, 5))
    await recordAt(gone, Date.now())
    assert.equal(await store.retire(platform, new ByTenant("2014-02-01"), 10), 1)
    assert.deepEqual(await partitionOf(database, "audit_records", stays.tenant), ["audit_records_p201401"])
    assert.equal((await verifyAudit(stays, store, { maxDays: 9 })).recordsChecked, 2n)

    const young = systemScope(freshTenant())
    const lastYear = Date.now() - 400 * 86_400_000
    await ensurePartitions(database, platform, lastYear, 0)
    await recordAt(young, lastYear)
    await recordAt(young, Date.now())
    await store.retire(platform, new ByTenant("2999-01-01"), 0)
    assert.equal((await verifyAudit(young, store, { maxDays: 9 })).recordsChecked, 4n)
  })
}

function ruleContract(open: () => Promise<SqlEngine>): void {
  it("drops what its rule lets go, and refuses other tables and other tenants", async () => {
    const { database } = await open()
    for (const goes of ["expired", "empty"]) {
      const name = `grown_${goes}`
      await asOwner(
        database,
        `create table ${name} (tenant text, id bigint generated always as identity, at timestamptz) partition by range (at)`,
        `select protect('${name}')`,
        `select partition_table('${name}', 'day', 'at', '${goes}')`,
      )
      await ensurePartitions(database, platform, MARCH_2016, 1)
      const insert = `insert into ${name} (tenant, at) values ('t', '2016-03-10T23:59:59Z'), ('t', '2016-03-12T00:00:00Z')`
      await database.query(platform, { text: insert })
      assert.deepEqual(await partitionOf(database, name, "t"), [`${name}_p20160310`, `${name}_rest`])
      await assert.rejects(
        database.transaction(systemScope(freshTenant()), (tx) =>
          tx.query({ text: `select partitions_drop_next('${name}', '2020-01-01')` }),
        ),
        DomainError,
      )
      const before = Date.UTC(2016, 2, 12)
      // The day without rows goes in any case.
      assert.equal(await dropExpired(database, platform, name, before), goes === "expired" ? 2 : 1)
      await database.query(platform, { text: `delete from ${name} where at < '2016-03-11'` })
      assert.equal(await dropExpired(database, platform, name, before), goes === "expired" ? 0 : 1)
      assert.deepEqual(await partitionOf(database, name, "t"), [`${name}_rest`])
    }
    assert.equal(await dropExpired(database, platform, "audit_records", Date.UTC(2999, 0)), 0)
  })

  it("gives way to a writer instead of waiting for it, and drops when it is gone", async (t) => {
    const { database, capabilities } = await open()
    if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
    const name = "grown_held"
    await asOwner(
      database,
      `create table ${name} (tenant text, at timestamptz) partition by range (at)`,
      `select protect('${name}')`,
      `select partition_table('${name}', 'day', 'at', 'expired')`,
    )
    await ensurePartitions(database, platform, MARCH_2016, 0)
    await database.transaction(platform, async (tx) => {
      await tx.query({ text: `insert into ${name} values ('t', '2016-03-10')` })
      assert.equal(await dropExpired(database, platform, name, Date.UTC(2017, 0)), 0)
    })
    // What gave way is rolled back behind its answer, and another run does not wait for that.
    while ((await dropExpired(database, platform, name, Date.UTC(2017, 0))) === 0) await setTimeout(20)
    assert.deepEqual(await partitionOf(database, name, "t"), [])
  })
}

/** Words are found by the index, and by their own tenant only, although the owner is bound by row-level security as well. */
async function wordsAreIndexed(session: Session): Promise<void> {
  const rows = async (text: string) => (await session.run([{ name: "", text, values: [] }]))[0]?.rows ?? []
  await session.script("select set_config('keelplane.tenant', 'one', false); set role keelplane_app")
  await session.script(`insert into keelplane.memory_collections (tenant, id, description, labels, dimension, metric, quantization,
      index_spec, embedder, revision, create_time, update_time)
    values ('one', 'c', '', '{}', 2, 'L2', 'NONE', '{}', '', 1, now(), now());
    insert into keelplane.memory_records (tenant, collection_key, id, body, metadata, embedding, revision, writes, create_time,
      update_time, indexed)
    select 'one', key, 'r' || i, 'word' || i || ' common', '{}', '[1,2]', 1, 1, now(), now(), i <> 8
    from keelplane.memory_collections, generate_series(1, 2000) i`)
  const find = (word: string) =>
    rows(`select r.id from keelplane.memory_records r where r.ctid = any(array(
      select keelplane.memory_word_places(key, array['${word}']) from keelplane.memory_collections))`)
  assert.deepEqual(await find("word7"), [{ id: "r7" }])
  assert.deepEqual(await find("word8"), [], "one that is not indexed is scanned for")
  const [found] = await rows("select key from keelplane.memory_collections")
  await session.script("select set_config('keelplane.tenant', 'two', false)")
  assert.deepEqual(
    await rows(`select keelplane.memory_word_places(${String(found?.key)}, array['word7'])`),
    [],
  )
  await session.script("set role none; select pg_stat_force_next_flush()")
  const [used] = await rows(
    "select idx_scan > 0 as used from pg_stat_user_indexes where indexrelname = 'memory_records_words'",
  )
  assert.equal(used?.used, true)
}

/** The schema as it was released before there were partitions, and before the outbox and usage had some. */
const RELEASED = 60
const UNCUT = 92

/** What an outbox and usage in one piece had, and what of it is where. */
async function cutLater(
  session: Session,
  tenant: string,
): Promise<(upgrade: () => Promise<unknown>) => Promise<void>> {
  const rows = async (text: string) => (await session.run([{ name: "", text, values: [] }]))[0]?.rows ?? []
  const add = (op: string) => `insert into keelplane.outbox (topic, tenant, key, op_id, payload, trace_parent)
    values ('t', '${tenant}', 'k', '${op}', '', '')`
  const use = (id: string, time: string) => `insert into keelplane.usage_events
    values ('${tenant}', '${id}', 'm', 2, ${time}, '', '', '', '{}', '\\x01', '2020-01-01')`
  await session.script(`begin; select set_config('keelplane.tenant', '${tenant}', true); ${add("1")}; ${add("2")};
    update keelplane.outbox set parked_at = now() where op_id = '1';
    ${use("before", "'2019-05-06'")}; ${use("now", "now()")}; ${use("later", "'2999-01-01'")}; commit`)
  return async (upgrade) => {
    await upgrade()
    await session.script(`begin; select set_config('keelplane.tenant', '${tenant}', true); set local role keelplane_app;
      ${add("3")}; commit; select set_config('keelplane.tenant', '*', false)`)
    const at = "replace(tableoid::regclass::text, 'keelplane.', '') as at"
    assert.deepEqual(
      await rows(`select op_id, ${at}, parked_at is not null as parked from keelplane.outbox order by id`),
      [
        { op_id: "1", at: "outbox_before", parked: true },
        { op_id: "2", at: "outbox_before", parked: false },
        { op_id: "3", at: "outbox_before", parked: false },
      ],
    )
    assert.deepEqual(await rows(`select event_id, ${at} from keelplane.usage_events order by event_time`), [
      { event_id: "before", at: "usage_events_before" },
      { event_id: "now", at: "usage_events_before" },
      { event_id: "later", at: "usage_events_rest" },
    ])
    assert.deepEqual(
      await rows(
        "select event_id, latest > '2999-01-01'::date - 1 as later from keelplane.usage_ids order by latest",
      ),
      [
        { event_id: "before", later: false },
        { event_id: "now", later: false },
        { event_id: "later", later: true },
      ],
    )
    assert.deepEqual(await rows("select keelplane.usage_retire('2019-06-01', 9)::int as taken"), [
      { taken: 1 },
    ])
    assert.deepEqual(
      await rows("select meter, month::text as month, events::int as events from keelplane.usage_months"),
      [{ meter: "m", month: "2019-05-01", events: 1 }],
    )
  }
}

describe("an upgrade", { timeout: 300_000 }, () => {
  const upgraded = async (session: Session, owner: string | undefined) => {
    const files = await readMigrations()
    await migrate(
      session,
      files.filter(({ version }) => version <= RELEASED),
    )
    const tenant = freshTenant()
    const day = (of: string, seq: number) =>
      `insert into keelplane.audit_records values ('${tenant}', '${of}', ${seq}, '${of}-${seq}', now(), now(), 'a', 'b', 'c', 'd',
        'success', '', '', '', '{}', '\\x00', '\\x01')`
    await session.script(
      `begin; select set_config('keelplane.tenant', '${tenant}', true); ${day("2016-01-31", 1)}; ${day("2026-11-30", 1)}; commit`,
    )
    await migrate(
      session,
      files.filter(({ version }) => version <= UNCUT),
    )
    const cut = await cutLater(session, tenant)
    await cut(() => migrate(session, files))
    await session.script(`begin; select set_config('keelplane.tenant', '${tenant}', true);
      set local role keelplane_app; ${day("2031-01-01", 1)}; commit`)
    await session.script("select set_config('keelplane.tenant', '*', false)")
    const [found] = await session.run([
      {
        name: "",
        text: "select id, tableoid::regclass::text as name from keelplane.audit_records order by day",
        values: [],
      },
    ])
    assert.deepEqual(
      found?.rows.map(({ id, name }) => [id, String(name).replace("keelplane.", "")]),
      [
        ["2016-01-31-1", "audit_records_before"],
        ["2026-11-30-1", "audit_records_before"],
        ["2031-01-01-1", "audit_records_rest"],
      ],
      owner,
    )
  }

  it("keeps what was recorded, on PGlite", async () => {
    const session = await Session.connect({
      stream: () => new PgliteStream({ fsync: false, settings: {} }),
      user: "postgres",
      database: "postgres",
    })
    await upgraded(session, undefined)
    await session.close()
  })

  for (const server of postgresServers) {
    it(`keeps what was recorded, under an owner whom row-level security binds, on ${server.name}`, {
      skip: server.skip,
    }, async () => {
      const url = new URL(await server.url())
      const name = `keelplane_owned_${randomUUID().replaceAll("-", "")}`
      const first = await Session.connect({ connectionString: url.href })
      await first.script(`create role ${name} createrole`)
      await first.script(`create database ${name} owner ${name}`)
      url.pathname = `/${name}`
      const session = await Session.connect({ connectionString: url.href })
      try {
        await session.script("create extension vector")
        await session.script(`do $$ begin if not exists (select from pg_roles where rolname = 'keelplane_app') then
          create role keelplane_app nologin; end if; end $$; grant keelplane_app to ${name}`)
        await session.script(`set session authorization ${name}`)
        await upgraded(session, name)
        await wordsAreIndexed(session)
      } finally {
        await session.close()
        await first.script(`drop database ${name} with (force)`)
        await first.script(`drop role ${name}`)
        await first.close()
      }
    })
  }
})

onSqlEngines((open) => {
  makingContract(open)
  auditContract(open)
  ruleContract(open)
})
