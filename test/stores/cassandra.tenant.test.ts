/** The end of a tenant in a keyspace. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import type { Cluster } from "../../src/stores/cassandra/index.ts"
import { createCassandraTenantEraser } from "../../src/stores/cassandra/tenant-eraser.ts"
import { rejects } from "../contract/event-support.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { eraserHarness, fill, KEYSPACE, PLAIN, storesOn, value } from "./cassandra-tenant.ts"

const TABLES = [
  "events",
  "event_ids",
  "stream_names",
  "snapshots",
  "snapshot_projections",
  "event_sweeps",
  "swept_streams",
  "feed",
  "log_buckets",
  "sessions",
  "session_index",
  "session_days",
  "session_expiry",
  "config_log",
  "config_log_segments",
  "config_heads",
  "config_versions",
  "job_history",
  "job_history_by_id",
  "job_history_spans",
  "job_history_in_once",
  "job_history_by_id_in_once",
  "job_history_spans_in_once",
  "job_history_classes",
]

/** The tables that have rows of a tenant. */
async function holding(cql: Cluster, scope: CallScope): Promise<string[]> {
  const found: string[] = []
  for (const table of TABLES) {
    const rows = await cql.read(scope, {
      cql: `select tenant from ${table} where tenant = ? allow filtering`,
      values: [scope.tenant],
    })
    if (rows.length > 0) found.push(table)
  }
  return found
}

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  tenantEraserContract(async () => eraserHarness((await testCassandra(KEYSPACE)).session))

  it("erases one tenant from every table, no other, and lets it begin anew", async () => {
    const { session: cql } = await testCassandra(KEYSPACE)
    const stores = storesOn(cql)
    const [gone, stays] = [systemScope(freshTenant()), systemScope(freshTenant())]
    for (const scope of [gone, stays]) await fill(stores, scope)
    // Another daemon dies after it has filed a session, and before it has made it.
    const dying: Cluster = {
      read: (scope, statement, options) => cql.read(scope, statement, options),
      pages: (scope, statement, options) => cql.pages(scope, statement, options),
      write: (scope, statement) => cql.write(scope, statement),
      batch: (scope, statements) => cql.batch(scope, statements),
      cas: () => Promise.reject(new Error("the daemon died")),
    }
    const orphan = { agentId: "other", userId: "else", title: "", metadata: {}, state: "{}" }
    await assert.rejects(
      storesOn(dying).sessions.create(gone, {
        ...orphan,
        sessionId: "never",
        expiry: { kind: "ttl", ttlMs: 90_000 },
      }),
    )
    assert.equal(await stores.configs.lastSequence(gone), 5n)
    assert.deepEqual(await holding(cql, gone), TABLES)

    const eraser = createCassandraTenantEraser(cql, "events")
    assert.equal(await eraser.holds(gone), true)
    assert.deepEqual(await eraser.erase(gone), [
      { store: "events", what: "events", count: 597 },
      { store: "events", what: "sessions", count: 2 },
      { store: "events", what: "configs", count: 2 },
      { store: "events", what: "job_history", count: 3 },
    ])
    assert.deepEqual(await holding(cql, gone), [])
    assert.equal(await eraser.holds(gone), false)
    assert.deepEqual(await eraser.erase(gone), [])
    assert.ok((await stores.audit.query(gone, {}, { size: 9 })).items.length > 0)
    assert.deepEqual(await holding(cql, stays), TABLES)
    assert.equal((await stores.sessions.list(stays, {}, { size: 9 })).items.length, 2)

    assert.equal(await stores.configs.lastSequence(gone), 0n)
    await rejects(stores.sessions.get(gone, "a"), "NOT_FOUND")
    assert.equal((await stores.configs.put(gone, "k0", value, PLAIN)).version, 1n)
    assert.equal((await stores.configs.get(gone, "k0")).sequence, 1n)
    assert.equal(await stores.configs.lastSequence(gone), 1n)
  })
})
