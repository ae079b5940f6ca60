/** All that a tenant can have in a keyspace, for suites of his end. */
import assert from "node:assert/strict"
import { messageBatch } from "../../src/domain/event/session-message.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
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
  uuid,
  withRequestId,
} from "../contract/event-support.ts"
import { endedJob } from "../contract/job-history.contract.ts"
import type { TenantEraserHarness } from "../contract/tenant-eraser.contract.ts"
import { freshTenant } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"

const ONCE = { className: "once", ms: 86_400_000 }

/** How a keyspace is opened for all that a tenant can have in it. */
export const KEYSPACE = { jobLives: [ONCE] }

/** Every store of a keyspace. */
export function storesOn(cql: Cluster, clock = heldClock()) {
  // Another life begins later than the one before it.
  const later = () => clock.advance(1)
  const audit = createCassandraAuditStore({ cql, clock })
  return {
    events: createCassandraEventStore(cql, { clock, bucketEvents: MAX_BATCH_EVENTS, abandonedMs: 100 }),
    sessions: createCassandraSessionStore({ cql, clock }),
    configs: createCassandraConfigStore({ cql, clock, audit, segmentChanges: 2 }),
    jobs: createCassandraJobHistory({ cql, clock }),
    jobsOnce: createCassandraJobHistory({ cql, clock, lives: new ByTenant(ONCE) }),
    audit,
    later,
  }
}

/** What {@link storesOn} makes. */
export type Stores = ReturnType<typeof storesOn>

export const value = { kind: "struct", struct: {} } as const
export const PLAIN = { description: "" }

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

/** Gives a tenant something of everything. */
export async function fill(stores: Stores, scope: CallScope): Promise<void> {
  const { sessions, configs, jobs, jobsOnce } = stores
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
  // In an earlier class.
  await jobsOnce.append(scope, [endedJob("j0", Date.now())])
}

/** The suite's view of a keyspace. */
export function eraserHarness(cql: Cluster): TenantEraserHarness {
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
        3,
      )
    },
  }
}
