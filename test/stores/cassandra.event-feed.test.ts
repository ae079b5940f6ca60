/** What the event suites cannot see from outside: writers that stop half-way, answers that get lost, columns that would expire. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { Cluster, Statement } from "../../src/stores/cassandra/database.ts"
import { outcomeUnknown } from "../../src/stores/cassandra/errors.ts"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { append, events, readAll, readWholeFeed, rejects, withRequestId } from "../contract/event-support.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"

type Cas = Cluster["cas"]

/** The same keyspace, with something done about conditional writes. */
function withCas(cluster: Cluster, change: (cas: Cas) => Cas): Cluster {
  return {
    read: (scope, statement, options) => cluster.read(scope, statement, options),
    pages: (scope, statement, options) => cluster.pages(scope, statement, options),
    write: (scope, statement) => cluster.write(scope, statement),
    batch: (scope, statements) => cluster.batch(scope, statements),
    cas: change((scope, statements) => cluster.cas(scope, statements)),
  }
}

const changesStream = ([first]: readonly Statement[]) => first?.cql.startsWith("update events") ?? false

/** A store whose changes of streams wait for a gate, after all that comes before them. */
function heldStore(cluster: Cluster, gate: Promise<void>, reached: () => void) {
  const held = withCas(cluster, (cas) => async (scope, statements) => {
    if (changesStream(statements)) {
      reached()
      await gate
    }
    return cas(scope, statements)
  })
  return createCassandraEventStore(held, { clock: systemClock })
}

/** A store that is told of every other conditional write that nobody knows what became of it: half of these took place. */
function forgetfulStore(cluster: Cluster) {
  let count = 0
  const forgetful = withCas(cluster, (cas) => async (scope, statements) => {
    const turn = ++count % 4
    if (turn === 0) throw outcomeUnknown()
    const answer = await cas(scope, statements)
    if (turn === 2) throw outcomeUnknown()
    return answer
  })
  return createCassandraEventStore(forgetful, { clock: systemClock })
}

/** Repeats a call that can be repeated until somebody knows what became of it. */
async function untilTold(work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await work()
      return
    } catch (error) {
      assert.ok(error instanceof DomainError, String(error))
      assert.ok(["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"].includes(error.reason), error.reason)
    }
  }
}

const ALL = { types: [], limit: 100 }
const streamsOf = (page: { readonly events: readonly { readonly event: { readonly stream: string } }[] }) =>
  page.events.map(({ event }) => event.stream)

describe("streams on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let engine: Promise<CassandraEngine> | undefined
  const keyspace = async () => {
    engine ??= testCassandra()
    return (await engine).session
  }

  it("holds the feed back while a writer that comes first is still at it", async () => {
    const session = await keyspace()
    const scope = systemScope(freshTenant())
    const [gate, reached] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const slow = append(heldStore(session, gate.promise, reached.resolve), scope, "slow", events(1))
    await reached.promise
    const store = createCassandraEventStore(session, { clock: systemClock, abandonedMs: 600_000 })
    await append(store, scope, "fast", events(1))
    const early = await store.readFeed(scope, { ...ALL, after: undefined })
    const end = await store.feedEnd(scope)
    const changes = await store.feedChanges(scope, end, 10)
    assert.deepEqual(changes, { streams: [], end })
    gate.resolve()
    await slow
    for (const after of [early.end, end]) {
      const late = await store.readFeed(scope, { ...ALL, after })
      assert.deepEqual([...streamsOf(early), ...streamsOf(late)], ["slow", "fast"])
    }
  })

  it("goes past a writer that is gone, and gives it a later place should it come back", async () => {
    const session = await keyspace()
    const scope = systemScope(freshTenant())
    const store = createCassandraEventStore(session, { clock: systemClock, abandonedMs: 0 })
    await append(store, scope, "old", events(1))
    for (const [stream, fast] of [
      ["new", "fast-1"],
      ["old", "fast-2"],
    ] as const) {
      const [gate, reached] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      const end = await store.feedEnd(scope)
      const slow = append(heldStore(session, gate.promise, reached.resolve), scope, stream, events(1))
      await reached.promise
      await append(store, scope, fast, events(1))
      const early = await store.readFeed(scope, { ...ALL, after: end })
      assert.deepEqual(streamsOf(early), [fast])
      gate.resolve()
      await slow
      assert.deepEqual(streamsOf(await store.readFeed(scope, { ...ALL, after: early.end })), [stream])
      assert.deepEqual(streamsOf(await store.readFeed(scope, { ...ALL, after: end })), [fast, stream])
    }
  })

  it("lets writers through whom a reader far ahead of their time takes for gone, and misses none of theirs", async () => {
    const session = await keyspace()
    const scope = systemScope(freshTenant())
    const reader = createCassandraEventStore(session, { clock: systemClock, abandonedMs: 0 })
    const seen: string[] = []
    let [after, writing] = [await reader.feedEnd(scope), true]
    const writers = [0, 1, 2].map(async (n) => {
      const store = createCassandraEventStore(session, { clock: systemClock })
      for (let round = 0; round < 8; round++) await append(store, scope, `s-${(n + round) % 2}`, events(2))
    })
    const done = Promise.all(writers).finally(() => {
      writing = false
    })
    for (let more = true; more; ) {
      const last = !writing
      const page = await reader.readFeed(scope, { ...ALL, after })
      seen.push(...page.events.map(({ event: { stream, revision } }) => `${stream} ${revision}`))
      after = page.end
      more = !last || page.events.length > 0
    }
    await done
    const there = await Promise.all(["s-0", "s-1"].map((stream) => readAll(reader, scope, stream)))
    const expected = there.flat().map(({ stream, revision }) => `${stream} ${revision}`)
    assert.equal(expected.length, 48)
    assert.deepEqual(seen.toSorted(), expected.toSorted())
  })

  it("keeps each event once when answers are lost, whether the write took place or not", async () => {
    const session = await keyspace()
    const scope = systemScope(freshTenant())
    const store = forgetfulStore(session)
    const calls = Array.from({ length: 60 }, async (_, n) => {
      for (let round = 0; round < 3; round++) {
        const draft = events(1, n % 2 === 0 ? { eventId: crypto.randomUUID() } : {})
        const call = n % 2 === 0 ? scope : withRequestId(scope, `r-${n}-${round}`, 1)
        await untilTold(() => append(store, call, `s-${n % 4}`, draft))
      }
    })
    await Promise.all(calls)
    const honest = createCassandraEventStore(session, { clock: systemClock, abandonedMs: 0 })
    const found = (await Promise.all([0, 1, 2, 3].map((n) => readAll(honest, scope, `s-${n}`)))).flat()
    const ids = found.map(({ eventId }) => eventId)
    assert.equal(new Set(ids).size, ids.length)
    assert.equal(ids.length, 180)
    const feed = (await readWholeFeed(honest, scope)).map(({ eventId }) => eventId)
    assert.deepEqual(feed.sort(), ids.sort())
  })

  it("refuses a request_id that was used for another stream", async () => {
    const store = createCassandraEventStore(await keyspace(), { clock: systemClock })
    const scope = systemScope(freshTenant())
    await append(store, withRequestId(scope, "r", 1), "a", events(1))
    await rejects(append(store, withRequestId(scope, "r", 2), "b", events(1)), "REQUEST_ID_REUSED")
    await rejects(store.getStream(scope, "b"), "NOT_FOUND")
  })

  it("keeps a stream's head when the table's rows expire", async () => {
    const { session } = await testCassandra()
    const scope = systemScope(freshTenant())
    await session.write(systemScope(), { cql: "alter table events with default_time_to_live = 1" })
    const store = createCassandraEventStore(session, { clock: systemClock })
    await append(store, scope, "s", events(2))
    while ((await readAll(store, scope, "s")).length > 0)
      await new Promise((resolve) => setTimeout(resolve, 100))
    assert.equal((await store.getStream(scope, "s")).head, 2n)
    await rejects(append(store, scope, "s", events(1), { kind: "no_stream" }), "REVISION_MISMATCH")
    assert.equal((await append(store, scope, "s", events(1))).firstRevision, 3n)
  })
})
