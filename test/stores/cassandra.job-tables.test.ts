/** The tables of the job history on Cassandra: one set for each class of tenants, each with one time to live. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { JOB_HISTORY_MS, type JobLife } from "../../src/domain/event/job-history.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { type CassandraEngine, openCassandra } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { endedJob } from "../contract/job-history.contract.ts"
import {
  administer,
  atEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
  freshTenant,
  testCassandra,
} from "../engines/cassandra.ts"

const DAY_S = 86_400
const YEAR_S = 365 * DAY_S
const system = systemScope()

/** A keyspace that daemons with different settings open. */
async function keyspace() {
  const [hosts, name] = [await cassandraHosts(), freshKeyspace()]
  atEnd(() => administer(hosts, `drop keyspace if exists ${name}`))
  const daemon = (...jobLives: JobLife[]): CassandraEngine => {
    const engine = openCassandra({ url: `${hosts}/${name}?replication=1`, jobLives })
    atEnd(() => engine.close())
    return engine
  }
  return { name, daemon }
}

/** The time to live and the window, in days, of each table of the job history. */
async function lives({ session }: CassandraEngine, name: string) {
  const rows = await session.read<{
    table_name: string
    default_time_to_live: number
    compaction: Readonly<Record<string, string>>
  }>(system, {
    cql: "select table_name, default_time_to_live, compaction from system_schema.tables where keyspace_name = ?",
    values: [name],
  })
  const own = rows.filter(({ table_name }) => table_name.startsWith("job_history"))
  return Object.fromEntries(
    own.map((row) => [row.table_name, [row.default_time_to_live, row.compaction.compaction_window_size]]),
  )
}

/** A class' part of {@link lives}. */
function kept(end: string, seconds: number, days: string): Record<string, unknown> {
  return {
    [`job_history${end}`]: [seconds, days],
    [`job_history_by_id${end}`]: [seconds, days],
    [`job_history_spans${end}`]: [seconds + 31 * DAY_S, undefined],
  }
}

const CLASSES = { job_history_classes: [0, undefined] }

describe("tables of the job history on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  it("have one time to live for each class, which a class that is changed changes", async () => {
    const { name, daemon } = await keyspace()
    const first = daemon()
    await first.migrate()
    assert.deepEqual(await lives(first, name), { ...CLASSES, ...kept("", YEAR_S, "30") })
    const rest: JobLife = { ms: JOB_HISTORY_MS }
    await daemon(rest, { className: "trial", ms: 7 * DAY_S * 1_000 }).migrate()
    const two = { ...CLASSES, ...kept("", YEAR_S, "30"), ...kept("_in_trial", 7 * DAY_S, "1") }
    assert.deepEqual(await lives(first, name), two)
    await daemon({ ms: 60 * DAY_S * 1_000 }, { className: "trial", ms: 24 * DAY_S * 1_000 }).migrate()
    assert.deepEqual(await lives(first, name), {
      ...CLASSES,
      ...kept("", 60 * DAY_S, "5"),
      ...kept("_in_trial", 24 * DAY_S, "2"),
    })
    // Who keeps no history leaves it alone, and so does who only looks.
    await first.migrate()
    await daemon(rest).migrate({ dryRun: true })
    assert.deepEqual((await lives(first, name)).job_history, [60 * DAY_S, "5"])
  })

  it("are made once, whoever of several daemons is first, also where each has another class", async () => {
    const { name, daemon } = await keyspace()
    const rest: JobLife = { ms: JOB_HISTORY_MS / 2 }
    const one: JobLife = { className: "one", ms: 1_000 * DAY_S }
    const two: JobLife = { className: "two", ms: 2_000 * DAY_S }
    const daemons = [daemon(rest, one, two), daemon(rest, one, two), daemon(rest, one), daemon(rest, two)]
    await Promise.all(daemons.map((engine) => engine.migrate()))
    const [any] = daemons
    assert.ok(any)
    assert.deepEqual(await lives(any, name), {
      ...CLASSES,
      ...kept("", YEAR_S / 2, "15"),
      ...kept("_in_one", DAY_S, "1"),
      ...kept("_in_two", 2 * DAY_S, "1"),
    })
    // What a class' tables are is written apart from the migrations.
    const columns = async (table: string) => {
      const rows = await any.session.read(system, {
        cql: `select column_name, type, kind, position, clustering_order from system_schema.columns
          where keyspace_name = ? and table_name = ?`,
        values: [name, table],
      })
      assert.ok(rows.length > 0)
      return rows
    }
    for (const table of ["job_history", "job_history_by_id", "job_history_spans"]) {
      assert.deepEqual(await columns(`${table}_in_one`), await columns(table))
    }
  })

  it("let jobs go by their time to live, and an earlier end never comes to light again", async () => {
    const fleeting: JobLife = { className: "fleeting", ms: 4_000 }
    const { session: cql } = await testCassandra({ jobLives: [fleeting] })
    const scope = systemScope(freshTenant())
    const slow = createCassandraJobHistory({ cql })
    const quick = createCassandraJobHistory({ cql, lives: new ByTenant(fleeting) })
    const now = Date.now()
    await slow.append(scope, [endedJob("again", now), endedJob("stays", now)])
    await quick.append(scope, [endedJob("again", now, { revision: 7n }), endedJob("goes", now)])
    const left = async (table: string) => {
      const rows = await cql.read<{ job_id: string; ttl: number }>(scope, {
        cql: `select job_id, ttl(head) as ttl from ${table} where tenant = ? allow filtering`,
        values: [scope.tenant],
      })
      return rows
    }
    for (const table of ["job_history", "job_history_by_id"]) {
      const rows = await left(table)
      assert.deepEqual(
        rows.map(({ job_id }) => job_id),
        ["stays"],
        table,
      )
      for (const { ttl } of rows) assert.ok(ttl > YEAR_S - 600 && ttl <= YEAR_S, `${ttl}`)
    }
    const until = Date.now() + 60_000
    for (const table of ["job_history_in_fleeting", "job_history_by_id_in_fleeting"])
      while ((await left(table)).length > 0) assert.ok(Date.now() < until, table)
    for (const id of ["again", "goes"]) assert.equal(await slow.get(scope, id), undefined)
    const { items } = await quick.list(scope, { statuses: [], full: true }, { size: 9 })
    assert.deepEqual(
      items.map(({ id }) => id),
      ["stays"],
    )
  })

  it("take no class whose name is none", async () => {
    const { session: cql } = await testCassandra()
    const scope = systemScope(freshTenant())
    const history = createCassandraJobHistory({ cql, lives: new ByTenant({ className: "x; drop", ms: 1 }) })
    await assert.rejects(history.append(scope, [endedJob("a", Date.now() + 9_000)]))
    assert.equal(await history.get(scope, "a"), undefined)
  })
})
