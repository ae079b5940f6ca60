/** The session suite on Cassandra, and what only several daemons or a bad line can do. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { messageBatch } from "../../src/domain/event/session-message.ts"
import type { SessionDraft } from "../../src/domain/event/session-model.ts"
import type { SessionStore } from "../../src/domain/event/session-store.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { createCassandraSessionStore } from "../../src/stores/cassandra/session-store.ts"
import { rejects, withRequestId } from "../contract/event-support.ts"
import { type SessionHarness, sessionContract } from "../contract/session.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { lossyCluster } from "./cassandra-faults.ts"

const draft: SessionDraft = {
  sessionId: "s",
  agentId: "agent",
  userId: "user",
  title: "",
  metadata: {},
  state: "{}",
  expiry: { kind: "ttl", ttlMs: 60_000 },
}

function say(store: SessionStore, scope: CallScope, text: string) {
  const message = {
    role: "user",
    content: [{ kind: "text", text }],
    toolCalls: [],
    toolCallId: "",
    name: "",
  } as const
  return store.append(scope, messageBatch("s", [message], undefined))
}

async function sequences(store: SessionStore, scope: CallScope): Promise<number[]> {
  const { items } = await store.messages(scope, "s", false, { size: 1_000 })
  return items.map(({ sequence }) => Number(sequence))
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1)

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const engine = (): Promise<CassandraEngine> => {
    opened ??= testCassandra()
    return opened
  }

  sessionContract(async (): Promise<SessionHarness> => {
    const clock = heldClock()
    return {
      store: createCassandraSessionStore({ cql: (await engine()).session, clock }),
      freshTenant,
      clock,
    }
  })

  describe("sessions of several daemons", () => {
    it("are written by all of them without a gap, a loss or a repetition", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const daemons = [1, 2, 3].map(() => createCassandraSessionStore({ cql, clock }))
      const [first] = daemons
      assert.ok(first)
      const scope = systemScope(freshTenant())
      await first.create(scope, draft)
      const answers = await Promise.all(
        Array.from({ length: 60 }, async (_, at) => {
          const daemon = daemons[at % 3]
          assert.ok(daemon)
          return Number((await say(daemon, scope, `${at}`)).firstSequence)
        }),
      )
      assert.deepEqual(
        answers.toSorted((a, b) => a - b),
        upTo(60),
      )
      assert.deepEqual(await sequences(first, scope), upTo(60))
    })

    it("are the same to daemons whose clocks are an hour apart, who answer for each other", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const daemons = [-3_600_000, 0, 3_600_000].map((skew) =>
        createCassandraSessionStore({ cql, clock: { now: () => clock.now() + skew } }),
      )
      const scope = systemScope(freshTenant())
      await daemons[0]?.create(scope, { ...draft, expiry: { kind: "ttl", ttlMs: 4 * 3_600_000 } })
      await Promise.all(
        Array.from({ length: 30 }, async (_, at) => {
          const [daemon, other] = [daemons[at % 3], daemons[(at + 1) % 3]]
          assert.ok(daemon && other)
          const call = withRequestId(scope, `${at}`, 1)
          const first = await say(daemon, call, `${at}`)
          assert.deepEqual(await say(other, call, `${at}`), first)
        }),
      )
      for (const daemon of daemons) {
        assert.deepEqual(await sequences(daemon, scope), upTo(30))
        assert.equal((await daemon.list(scope, {}, { size: 9 })).items.length, 1)
      }
    })

    it("have one maker, whoever comes first", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const daemons = Array.from({ length: 8 }, () => createCassandraSessionStore({ cql, clock }))
      const scope = systemScope(freshTenant())
      const made = await Promise.allSettled(
        daemons.map((daemon, at) => daemon.create(scope, { ...draft, title: `${at}` })),
      )
      assert.equal(made.filter(({ status }) => status === "fulfilled").length, 1)
      const [won] = made.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []))
      assert.deepEqual((await daemons[0]?.list(scope, {}, { size: 9 }))?.items, [won])
    })

    it("keep what one daemon answered for another that is asked the same", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const [one, two] = [1, 2].map(() => createCassandraSessionStore({ cql, clock }))
      assert.ok(one && two)
      const scope = systemScope(freshTenant())
      await one.create(scope, draft)
      const call = withRequestId(scope, "r", 1)
      const answers = await Promise.all([say(one, call, "x"), say(two, call, "x"), say(one, call, "x")])
      assert.deepEqual(answers[1], answers[0])
      assert.deepEqual(await say(two, call, "x"), answers[0])
      assert.deepEqual(await sequences(two, scope), [1])
      await rejects(say(two, withRequestId(scope, "r", 2), "x"), "REQUEST_ID_REUSED")
    })

    it("are refused by what they are now, and not by what a daemon remembers", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const [one, two] = [1, 2].map(() => createCassandraSessionStore({ cql, clock }))
      assert.ok(one && two)
      const scope = systemScope(freshTenant())
      await one.create(scope, draft)
      await two.update(scope, "s", { title: "two" }, 1n)
      await rejects(one.update(scope, "s", { title: "one" }, 1n), "REVISION_MISMATCH")
      assert.equal((await one.update(scope, "s", { title: "one" }, 2n)).revision, 3n)
      await two.end(scope, "s", "done", 3n)
      await rejects(say(one, scope, "late"), "SESSION_ENDED")
      assert.equal((await one.end(scope, "s", "again", undefined)).endReason, "done")
      await two.erase(scope, "s")
      await rejects(one.update(scope, "s", { title: "gone" }, undefined), "NOT_FOUND")
      await one.create(scope, draft)
      clock.advance(59_999)
      await say(two, scope, "keeps it alive")
      clock.advance(59_999)
      // To the first daemon it has expired.
      assert.equal((await say(one, scope, "too")).firstSequence, 2n)
      await rejects(one.create(scope, draft), "ALREADY_EXISTS")
      assert.equal((await one.list(scope, {}, { size: 9 })).items.length, 1)
    })

    it("share their request_ids, so that one is not used for two sessions", async () => {
      const { session: cql } = await engine()
      const store = createCassandraSessionStore({ cql, clock: heldClock() })
      const scope = systemScope(freshTenant())
      await store.create(withRequestId(scope, "r", 1), draft)
      await rejects(
        store.create(withRequestId(scope, "r", 2), { ...draft, sessionId: "t" }),
        "REQUEST_ID_REUSED",
      )
      // What was refused for certain frees its request_id.
      await rejects(store.create(withRequestId(scope, "s", 3), draft), "ALREADY_EXISTS")
      assert.equal(
        (await store.create(withRequestId(scope, "s", 4), { ...draft, sessionId: "t" })).revision,
        1n,
      )
    })
  })

  describe("sessions over a bad line", () => {
    it("take a change once though its answer, or the request, gets lost", async () => {
      const { session } = await engine()
      const { cql, losses } = lossyCluster(session)
      const store = createCassandraSessionStore({ cql, clock: heldClock() })
      const scope = systemScope(freshTenant())
      losses.casAnswers = 1
      await store.create(scope, draft)
      for (let at = 1; at <= 6; at++) {
        losses.casAnswers = at % 2
        losses.casRequests = at % 3
        assert.equal(Number((await say(store, scope, `${at}`)).messageRevision), at)
      }
      losses.casAnswers = 1
      assert.equal((await store.update(scope, "s", { title: "t" }, 1n)).revision, 2n)
      assert.deepEqual(await sequences(store, scope), upTo(6))
    })

    it("are listed only where they were made", async () => {
      const { session } = await engine()
      const { cql } = lossyCluster(session)
      const failing = { ...cql, cas: () => Promise.reject(new Error("the daemon died")) }
      const clock = heldClock()
      const scope = systemScope(freshTenant())
      const dying = createCassandraSessionStore({ cql: failing, clock })
      await assert.rejects(dying.create(scope, draft))
      const store = createCassandraSessionStore({ cql: session, clock })
      assert.deepEqual((await store.list(scope, {}, { size: 9 })).items, [])
      const made = await store.create(scope, draft)
      assert.deepEqual((await store.list(scope, {}, { size: 9 })).items, [made])
      clock.advance(60_000)
      assert.equal(await store.sweep(scope, 10), 2)
      const left = await session.read(scope, {
        cql: "select * from session_index where tenant = ? and owner = '' and day = ?",
        values: [scope.tenant, new Date(clock.now() - 60_000).toISOString().slice(0, 10)],
      })
      assert.deepEqual(left, [])
    })
  })

  describe("erased sessions", () => {
    it("leave no row that names them, in any table", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const store = createCassandraSessionStore({ cql, clock })
      const scope = systemScope(freshTenant())
      await store.create(withRequestId(scope, "r", 1), draft)
      await say(store, scope, "secret")
      await store.update(scope, "s", { expiry: { kind: "ttl", ttlMs: 30_000 } }, undefined)
      assert.equal(await store.erase(scope, "s"), true)
      assert.equal(await store.erase(scope, "s"), false)
      await rejects(store.get(scope, "s"), "NOT_FOUND")
      for (const table of ["sessions", "session_index", "session_expiry"]) {
        const rows = await cql.read(scope, {
          cql: `select session_id from ${table} where tenant = ? allow filtering`,
          values: [scope.tenant],
        })
        assert.deepEqual(rows, [], table)
      }
      await store.create(scope, draft)
      assert.deepEqual(await sequences(store, scope), [])
    })
  })

  describe("expired sessions", () => {
    it("leave nothing behind, and none of it is the next one's of their id", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const store = createCassandraSessionStore({ cql, clock })
      const scope = systemScope(freshTenant())
      await store.create(scope, draft)
      for (const text of ["a", "b", "c"]) await say(store, scope, text)
      clock.advance(60_000)
      await store.create(scope, draft)
      await say(store, scope, "new")
      while ((await store.sweep(scope, 1)) > 0);
      assert.deepEqual(await sequences(store, scope), [1])
      const rows = async () =>
        cql.read(scope, {
          cql: "select sequence from sessions where tenant = ? and session_id = 's'",
          values: [scope.tenant],
        })
      assert.equal((await rows()).length, 1)
      clock.advance(60_000)
      while ((await store.sweep(scope, 1)) > 0);
      assert.deepEqual(await rows(), [])
      const days = await cql.read(scope, {
        cql: "select day from session_days where tenant = ? and owner = ''",
        values: [scope.tenant],
      })
      // Today's may still be written to.
      assert.ok(days.length <= 2)
    })

    it("stay while they are used, and go when their time is shortened", async () => {
      const { session: cql } = await engine()
      const clock = heldClock()
      const store = createCassandraSessionStore({ cql, clock })
      const scope = systemScope(freshTenant())
      await store.create(scope, { ...draft, expiry: { kind: "ttl", ttlMs: 86_400_000 } })
      clock.advance(80_000_000)
      await say(store, scope, "still here")
      clock.advance(80_000_000)
      assert.equal(await store.sweep(scope, 10), 1)
      assert.deepEqual(await sequences(store, scope), [1])
      await store.update(scope, "s", { expiry: { kind: "ttl", ttlMs: 1_000 } }, undefined)
      clock.advance(1_000)
      assert.equal(await store.sweep(scope, 10), 1)
      const left = await cql.read(scope, {
        cql: "select sequence from sessions where tenant = ? and session_id = 's'",
        values: [scope.tenant],
      })
      assert.deepEqual(left, [])
    })
  })
})
