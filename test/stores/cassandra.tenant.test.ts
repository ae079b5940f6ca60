/** The end of a tenant in a keyspace. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { messageBatch } from "../../src/domain/event/session-message.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import { createCassandraConfigStore } from "../../src/stores/cassandra/config-store.ts"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import { MAX_BATCH_EVENTS } from "../../src/stores/cassandra/event-tip.ts"
import type { Cluster } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { createCassandraSessionStore } from "../../src/stores/cassandra/session-store.ts"
import { createCassandraTenantEraser } from "../../src/stores/cassandra/tenant-eraser.ts"
import {
  append,
  event,
  events,
  readAll,
  readWholeFeed,
  rejects,
  uuid,
  withRequestId,
} from "../contract/event-support.ts"
import { endedJob } from "../contract/job-history.contract.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"

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
]

function storesOn(cql: Cluster, clock = heldClock()) {
  // Another life begins later than the one before it.
  const later = () => clock.advance(1)
  const audit = createCassandraAuditStore({ cql, clock })
  return {
    events: createCassandraEventStore(cql, { clock, bucketEvents: MAX_BATCH_EVENTS, abandonedMs: 100 }),
    sessions: createCassandraSessionStore({ cql, clock }),
    configs: createCassandraConfigStore({ cql, clock, audit, segmentChanges: 2 }),
    jobs: createCassandraJobHistory({ cql, clock }),
    audit,
    later,
  }
}

type Stores = ReturnType<typeof storesOn>

const value = { kind: "struct", struct: {} } as const
const PLAIN = { description: "" }

/** Events over several buckets, of which some are reclaimed. */
async function fillStreams({ events: store }: Stores, scope: CallScope): Promise<void> {
  for (let batch = 0; batch < 6; batch++) {
    await append(store, scope, "long", [...events(99), event({ eventId: uuid(batch) })])
  }
  await store.saveSnapshot(scope, { stream: "long", projection: "p", revision: 50n, state: "{}" })
  await store.truncateStream(scope, "long", 10n, "{}")
  await store.sweep(scope, 5)
  await append(store, scope, "short", events(2))
  // In another life, what this daemon still knew of the one before has led it to enter what it did not append.
  for (const until = Date.now() + 60_000; (await readWholeFeed(store, scope)).length !== 593; )
    assert.ok(Date.now() < until)
}

async function fill(stores: Stores, scope: CallScope): Promise<void> {
  const { sessions, configs, jobs } = stores
  stores.later()
  await fillStreams(stores, scope)
  for (const sessionId of ["a", "b"]) {
    const expiry = { kind: "ttl", ttlMs: 60_000 } as const
    const draft = {
      sessionId,
      agentId: "agent",
      userId: "user",
      title: "",
      metadata: {},
      state: "{}",
      expiry,
    }
    await sessions.create(withRequestId(scope, sessionId, 1), draft)
    const content = [{ kind: "text", text: "x" }] as const
    const message = { role: "user", content, toolCalls: [], toolCallId: "", name: "" } as const
    await sessions.append(scope, messageBatch(sessionId, [message], undefined))
  }
  for (let n = 0; n < 5; n++) await configs.put(scope, `k${n % 2}`, value, PLAIN)
  await jobs.append(scope, [endedJob("j1", Date.now()), endedJob("j2", Date.now() - 86_400_000)])
}

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
  tenantEraserContract(async () => {
    const { session: cql } = await testCassandra()
    const clock = heldClock()
    const stores = storesOn(cql, clock)
    return {
      eraser: createCassandraTenantEraser(cql, "events"),
      freshTenant,
      fill: (scope) => fill(stores, scope),
      check: async (scope) => {
        // A daemon that knows nothing of an earlier life, and one that does.
        for (const { events: store, sessions, configs } of [storesOn(cql, clock), stores]) {
          assert.equal((await readAll(store, scope, "long")).length, 591)
          assert.equal((await readWholeFeed(store, scope)).length, 593)
          assert.equal((await sessions.list(scope, {}, { size: 9 })).items.length, 2)
          assert.equal((await configs.list(scope, "", false, { size: 9 })).items.length, 2)
        }
        assert.equal(
          (await stores.jobs.list(scope, { statuses: [], full: false }, { size: 9 })).items.length,
          2,
        )
      },
    }
  })

  it("erases one tenant from every table, no other, and lets it begin anew", async () => {
    const { session: cql } = await testCassandra()
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
      { store: "events", what: "job_history", count: 2 },
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
