/**
 * Conditional writes of which nobody was told what became: they take place once or not at all, and nobody is told that nothing
 * was applied while one of them may still be on its way.
 */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { messageBatch } from "../../src/domain/event/session-message.ts"
import type { Clock } from "../../src/domain/kernel/clock.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import { createCassandraConfigStore } from "../../src/stores/cassandra/config-store.ts"
import type { Cluster } from "../../src/stores/cassandra/database.ts"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import { createCassandraSessionStore } from "../../src/stores/cassandra/session-store.ts"
import { append, events, exactly, readAll, readWholeFeed, rejects } from "../contract/event-support.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { scriptedCluster } from "./cassandra-faults.ts"

/** A change that shows whether it took place, and how often. */
interface Change {
  /** What its conditional batch begins with. */
  readonly writes: string
  prepare(cql: Cluster, clock: Clock, scope: CallScope): Promise<unknown>
  change(cql: Cluster, clock: Clock, scope: CallScope): Promise<unknown>
  /** 0 before, 1 after one change. */
  taken(cql: Cluster, clock: Clock, scope: CallScope): Promise<number>
}

const eventsOn = (cql: Cluster, clock: Clock) => createCassandraEventStore(cql, { clock, abandonedMs: 0 })
const sessionsOn = (cql: Cluster, clock: Clock) => createCassandraSessionStore({ cql, clock })
const auditOn = (cql: Cluster, clock: Clock) => createCassandraAuditStore({ cql, clock })
const configOn = (cql: Cluster, clock: Clock) =>
  createCassandraConfigStore({ cql, clock, audit: auditOn(cql, clock) })

const twoEvents = (cql: Cluster, clock: Clock, scope: CallScope) =>
  append(eventsOn(cql, clock), scope, "s", events(2))
const streamOf = (cql: Cluster, clock: Clock, scope: CallScope) => eventsOn(cql, clock).getStream(scope, "s")
const aSession = (cql: Cluster, clock: Clock, scope: CallScope) =>
  sessionsOn(cql, clock).create(scope, {
    sessionId: "s",
    agentId: "",
    userId: "",
    title: "",
    metadata: {},
    state: "{}",
    expiry: { kind: "ttl", ttlMs: 60_000 },
  })
const text = {
  role: "user",
  content: [{ kind: "text", text: "t" }],
  toolCalls: [],
  toolCallId: "",
  name: "",
} as const
const sessionOf = (cql: Cluster, clock: Clock, scope: CallScope) => sessionsOn(cql, clock).get(scope, "s")

const CHANGES: Readonly<Record<string, Change>> = {
  "an append to a stream": {
    writes: "update events",
    prepare: twoEvents,
    change: (cql, clock, scope) => append(eventsOn(cql, clock), scope, "s", events(1), exactly(2)),
    taken: async (cql, clock, scope) => Number((await streamOf(cql, clock, scope)).head) - 2,
  },
  "an append of whatever revision": {
    writes: "update events",
    prepare: twoEvents,
    change: (cql, clock, scope) => append(eventsOn(cql, clock), scope, "s", events(1)),
    taken: async (cql, clock, scope) => (await readAll(eventsOn(cql, clock), scope, "s")).length - 2,
  },
  "a truncation": {
    writes: "update events",
    prepare: twoEvents,
    change: (cql, clock, scope) => eventsOn(cql, clock).truncateStream(scope, "s", 2n, "{}"),
    taken: async (cql, clock, scope) => Number((await streamOf(cql, clock, scope)).first) - 1,
  },
  "a deletion of a stream": {
    writes: "update events",
    prepare: twoEvents,
    change: (cql, clock, scope) => eventsOn(cql, clock).deleteStream(scope, "s", 2n),
    taken: async (cql, clock, scope) => ((await streamOf(cql, clock, scope)).deletedMs === undefined ? 0 : 1),
  },
  "messages of a session": {
    writes: "update sessions",
    prepare: aSession,
    change: (cql, clock, scope) => sessionsOn(cql, clock).append(scope, messageBatch("s", [text], undefined)),
    taken: async (cql, clock, scope) => Number((await sessionOf(cql, clock, scope)).messageRevision),
  },
  "a change of a session at its revision": {
    writes: "update sessions",
    prepare: aSession,
    change: (cql, clock, scope) => sessionsOn(cql, clock).update(scope, "s", { title: "t" }, 1n),
    taken: async (cql, clock, scope) => Number((await sessionOf(cql, clock, scope)).revision) - 1,
  },
  "the end of a session's data": {
    writes: "update sessions",
    prepare: async (cql, clock, scope) => {
      await aSession(cql, clock, scope)
      await sessionsOn(cql, clock).append(scope, messageBatch("s", [text], undefined))
    },
    change: async (cql, clock, scope) => assert.equal(await sessionsOn(cql, clock).erase(scope, "s"), true),
    taken: async (cql, _, scope) => {
      const rows = await cql.read(scope, {
        cql: "select sequence from sessions where tenant = ? and session_id = 's'",
        values: [scope.tenant],
      })
      return 1 - rows.length
    },
  },
  "a configuration's next version": {
    writes: "update config_log",
    prepare: (cql, clock, scope) =>
      configOn(cql, clock).put(scope, "k", { kind: "struct", struct: {} }, { description: "" }),
    change: (cql, clock, scope) =>
      configOn(cql, clock).put(
        scope,
        "k",
        { kind: "struct", struct: {} },
        { description: "", ifVersion: 1n },
      ),
    taken: async (cql, clock, scope) => Number((await configOn(cql, clock).get(scope, "k")).version) - 1,
  },
}

describe("on Cassandra, a conditional write in doubt", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let whole: Cluster
  const clock = heldClock()
  before(async () => {
    whole = (await testCassandra()).session
  })

  for (const [name, { writes, prepare, change, taken }] of Object.entries(CHANGES)) {
    const begun = async () => {
      const scope = systemScope(freshTenant())
      await prepare(whole, clock, scope)
      const script = scriptedCluster(whole, writes)
      return { scope, script, seen: () => taken(whole, clock, scope) }
    }

    it(`is not called "not applied" because a refusal came after it: ${name}`, async () => {
      const { scope, script, seen } = await begun()
      script.faults.push("late", "away")
      await rejects(change(script.cql, clock, scope), "OUTCOME_UNKNOWN")
      assert.equal(await seen(), 0)
      await script.arrive()
      assert.equal(await seen(), 1)
    })

    it(`takes place once though it arrives after it was given up: ${name}`, async () => {
      const { scope, script, seen } = await begun()
      script.faults.push("late")
      await change(script.cql, clock, scope)
      await script.arrive()
      assert.equal(await seen(), 1)
    })

    it(`takes place once though its answer, or all that was sent at first, is lost: ${name}`, async () => {
      for (const fault of ["unanswered", "lost"] as const) {
        const { scope, script, seen } = await begun()
        script.faults.push(fault)
        await change(script.cql, clock, scope)
        assert.equal(await seen(), 1, fault)
      }
    })
  }

  it("is unknown where what became of it cannot be read either", async () => {
    const scope = systemScope(freshTenant())
    await twoEvents(whole, clock, scope)
    const script = scriptedCluster(whole, "update events")
    script.faults.push("unanswered")
    script.refuseReads = "select event_id, recorded_ms, attempt"
    await rejects(append(eventsOn(script.cql, clock), scope, "s", events(1)), "OUTCOME_UNKNOWN")
    assert.equal((await streamOf(whole, clock, scope)).head, 3n)
  })

  it("does not make a read of the feed say so, which only shut out a writer that is gone", async () => {
    const scope = systemScope(freshTenant())
    const script = scriptedCluster(whole, "update events")
    script.faults.push("away")
    const store = eventsOn(script.cql, clock)
    await rejects(append(store, scope, "gone", events(1)), "STORE_UNAVAILABLE")
    await append(store, scope, "s", events(1))
    script.faults.push("lost", "unanswered")
    assert.deepEqual(await readWholeFeed(store, scope), [])
    assert.deepEqual(await readWholeFeed(store, scope), [])
    const streams = (await readWholeFeed(store, scope)).map(({ stream }) => stream)
    assert.deepEqual(streams, ["s"])
  })
})
