/**
 * Nothing of a tenant is forgotten when it moves: every table that holds rows of tenants has a kind of the archive, or stands here
 * with the reason why it has none. A new table or column fails these tests until somebody has decided.
 */
import assert from "node:assert/strict"
import { after, describe, it } from "node:test"
import { fieldsOf, KINDS, type Kind } from "../../src/domain/archive/model.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { openCassandra } from "../../src/stores/cassandra/index.ts"
import { ARCHIVE_TABLES, type ArchiveTable, columnOf } from "../../src/stores/postgres/archive-tables.ts"
import { encode } from "../../src/stores/postgres/exchange.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { administer, atEnd, cassandraHosts, cassandraSkip, freshKeyspace } from "../engines/cassandra.ts"
import { embeddedDatabase } from "../engines/pglite.ts"

/** Tables of an SQL database by the kind that they are read and written as. */
const SQL_TABLES: ReadonlyMap<string, Kind> = new Map<string, Kind>([
  ...Object.entries(ARCHIVE_TABLES).map(([kind, { name }]): [string, Kind] => [name, kind as Kind]),
  ["memory_collections", "collection"],
  ["memory_records", "record"],
])

/** Why the others have none. */
const SQL_LEFT_OUT: Readonly<Record<string, string>> = {
  idempotency: "a repetition of a call from before the move is a new call",
  platform_settings: "belongs to the platform",
  audit_chains: "the end of the last day, made again from auditDay",
  usage_ids: "made again from usageEvent",
  locks: "belong to processes that are gone",
  config_sequences: "made again from configVersion",
  config_heads: "made again from configVersion",
  outbox: "an export waits for audit records that are owed; copies of records and caches are made anew",
  sagas: "an export is refused while one is under way; those that are over are told of in the audit log",
}

/** Columns without a field, by table; `tenant` has none anywhere. */
const SQL_COLUMNS_LEFT_OUT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  streams: {
    category: "the beginning of the name, made again",
    swept_before: "what was hidden stays behind, so nothing is left to sweep",
  },
  events: { txid: "the order of items", position: "the order of items" },
  sessions: { size: "made again" },
  jobs: {
    held_ms: "of a lease",
    lease_token: "of a lease",
    worker: "of a lease",
    moving_until: "of a daemon that moves it",
  },
}

/** Tables of a keyspace by their kind. */
const CQL_TABLES: Readonly<Record<string, Kind>> = {
  events: "event",
  log_buckets: "stream",
  snapshots: "snapshot",
  sessions: "session",
  audit_log: "auditRecord",
  audit_log_segments: "auditDay",
  config_log: "configVersion",
  job_history: "job",
}

const CQL_LEFT_OUT: Readonly<Record<string, string>> = {
  event_ids: "finds events, made again",
  stream_names: "finds streams, made again",
  feed: "the order of events, which is that of their items",
  feed_settled: "how far the feed was read, found again",
  snapshot_projections: "finds snapshots, made again",
  event_sweeps: "what is to be swept; what is hidden stays behind",
  swept_streams: "what was swept; what is hidden stays behind",
  requests: "a repetition of a call from before the move is a new call",
  session_index: "finds sessions, made again",
  session_days: "finds sessions, made again",
  session_expiry: "finds sessions that are over, made again",
  audit_chains: "the end of the chain, made again from auditDay",
  audit_by_time: "finds records, made again",
  audit_time_days: "finds records, made again",
  config_log_segments: "parts of the log, made again",
  config_heads: "finds versions, made again",
  config_versions: "finds versions, made again",
  job_history_by_id: "finds jobs, made again",
  job_history_spans: "finds jobs, made again",
  job_history_classes: "finds jobs, made again",
}

describe("the tables of an SQL database", { timeout: 300_000 }, () => {
  let opened: Promise<SqlEngine> | undefined
  after(async () => (await opened)?.close())
  const columns = async (): Promise<ReadonlyMap<string, ReadonlySet<string>>> => {
    opened ??= embeddedDatabase()
    const rows = await (await opened).asOwner(async (session) => {
      const [found] = await session.run([
        encode({
          text: `select c.relname::text as table, a.attname::text as column from pg_class c
            join pg_namespace n on n.oid = c.relnamespace
            join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
            where n.nspname = 'keelplane' and c.relkind in ('r', 'p') and not c.relispartition`,
        }),
      ])
      return found?.rows ?? []
    })
    const byTable = Map.groupBy(rows, (row) => String(row.table))
    const sets = [...byTable].map(
      ([table, own]) => [table, new Set(own.map((row) => String(row.column)))] as const,
    )
    return new Map(sets.filter(([, own]) => own.has("tenant")))
  }

  it("have a kind, or a reason to have none", async () => {
    const known = [...SQL_TABLES.keys(), ...Object.keys(SQL_LEFT_OUT)]
    assert.deepEqual([...(await columns()).keys()].sort(), known.sort())
    assert.deepEqual([...SQL_TABLES.values()].sort(), Object.keys(KINDS).sort())
  })

  it("have a field for each column, or a reason to have none", async () => {
    const all = await columns()
    for (const [kind, table] of Object.entries(ARCHIVE_TABLES) as [Kind, ArchiveTable][]) {
      const fields = fieldsOf(kind).map(([field]) => columnOf(table, field))
      const leftOut = Object.keys(SQL_COLUMNS_LEFT_OUT[table.name] ?? {})
      const known = new Set(["tenant", ...fields, ...leftOut])
      assert.deepEqual([...(all.get(table.name) ?? [])].sort(), [...known].sort(), table.name)
    }
  })
})

describe("the tables of a keyspace", { skip: cassandraSkip, timeout: 600_000 }, () => {
  it("have a kind, or a reason to have none", async () => {
    const hosts = await cassandraHosts()
    const keyspace = freshKeyspace()
    const engine = openCassandra({ url: `${hosts}/${keyspace}?replication=1` })
    atEnd(async () => {
      await engine.close()
      await administer(hosts, `drop keyspace if exists ${keyspace}`)
    })
    await engine.migrate()
    const found = await engine.session.read<{ table_name: string }>(systemScope(), {
      cql: "select table_name from system_schema.columns where keyspace_name = ? and column_name = 'tenant' allow filtering",
      values: [keyspace],
    })
    const known = [...Object.keys(CQL_TABLES), ...Object.keys(CQL_LEFT_OUT)]
    assert.deepEqual(found.map(({ table_name }) => table_name).sort(), known.sort())
    for (const kind of Object.values(CQL_TABLES)) assert.ok(Object.hasOwn(KINDS, kind))
  })
})
