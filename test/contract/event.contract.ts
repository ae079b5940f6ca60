/** What every event store must do: appends, reads, idempotency. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import type { NewEvent } from "../../src/domain/event/append-events.ts"
import { type EventStore, MAX_READ_BYTES, STREAM_FILTER_FIELDS } from "../../src/domain/event/event-store.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  append,
  type EventHarness,
  event,
  events,
  exactly,
  readAll,
  readWholeFeed,
  rejects,
  uuid,
  withRequestId,
} from "./event-support.ts"

/** Registers the suite. */
export function eventContract(make: () => Promise<EventHarness>): void {
  describe("event store", () => {
    let harness: EventHarness
    let store: EventStore
    before(async () => {
      harness = await make()
      store = harness.store
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    keeping(() => harness, fresh)
    expecting(() => store, fresh)
    repeating(() => store, fresh)
    racing(() => store, fresh)
    reading(() => harness, fresh)
    listing(() => harness, fresh)
    hiding(() => harness, fresh)
  })
}

type Get<T> = () => T

function keeping(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("keeps an event unchanged: text, binary, empty, unicode, nested and null", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const samples: Partial<NewEvent>[] = [
      {},
      { data: { kind: "json", value: {} }, metadata: {} },
      {
        data: {
          kind: "json",
          value: { z: 1, a: "\u0000ü\u{1f680}\ud800", deep: [{ n: null }, -0.5, true, ""] },
        },
        metadata: { "": "", __proto__key: 1 },
        statePatch: { gone: null },
        correlationId: "corr ü",
        causationId: "cause",
        traceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        occurredMs: 12_345,
      },
      { data: { kind: "binary", bytes: new Uint8Array() }, contentType: "text/plain" },
      { data: { kind: "binary", bytes: Uint8Array.of(0, 255, 10, 92, 0) } },
    ]
    const appended = await append(
      store,
      scope,
      "s-1",
      samples.map((sample) => event(sample)),
    )
    assert.equal(appended.firstRevision, 1n)
    assert.equal(appended.lastRevision, 5n)
    assert.equal(appended.recordedMs, clock.now())
    assert.equal(appended.repeated, false)
    const read = await readAll(store, scope, "s-1")
    assert.deepEqual(
      read.map(({ eventId }) => eventId),
      appended.eventIds,
    )
    for (const [at, sample] of samples.entries()) {
      const kept = read[at]
      assert.ok(kept)
      assert.equal(kept.revision, BigInt(at + 1))
      assert.equal(kept.stream, "s-1")
      assert.deepEqual(parsed(kept.metadata), sample.metadata)
      assert.deepEqual(parsed(kept.statePatch), sample.statePatch)
      assert.deepEqual(contentOf(kept.data), contentOf(sample.data))
      assert.equal(kept.correlationId, sample.correlationId ?? "")
      assert.equal(kept.causationId, sample.causationId ?? "")
      assert.equal(kept.traceParent, sample.traceParent ?? "")
      assert.equal(kept.occurredMs, sample.occurredMs ?? clock.now())
      assert.equal(kept.recordedMs, clock.now())
    }
    assert.deepEqual(
      read.map(({ contentType }) => contentType),
      ["", "application/json", "application/json", "text/plain", "application/octet-stream"],
    )
  })

  it("tells names apart that differ only in case, accents or trailing space", async () => {
    const { store } = get()
    const scope = fresh()
    const names = ["s", "S", "s ", "é", "e\u0301", "s-1", "s-10"]
    for (const [at, name] of names.entries()) await append(store, scope, name, events(at + 1))
    for (const [at, name] of names.entries())
      assert.equal((await store.getStream(scope, name)).head, BigInt(at + 1))
  })

  it("never lets one tenant see another's streams", async () => {
    const { store } = get()
    const [mine, theirs] = [fresh(), fresh()]
    await append(store, mine, "s", [event({ eventId: uuid(1), type: "mine" })])
    await rejects(store.getStream(theirs, "s"), "NOT_FOUND")
    await rejects(readAll(store, theirs, "s"), "NOT_FOUND")
    assert.deepEqual(await readWholeFeed(store, theirs), [])
    await append(store, theirs, "s", [event({ eventId: uuid(1), type: "theirs" })], { kind: "no_stream" })
    assert.deepEqual(
      (await readAll(store, mine, "s")).map(({ type }) => type),
      ["mine"],
    )
    assert.deepEqual(
      (await readWholeFeed(store, theirs)).map(({ type }) => type),
      ["theirs"],
    )
    await store.deleteStream(theirs, "s", undefined)
    assert.equal((await readAll(store, mine, "s")).length, 1)
  })

  it("never records an event before the one at the previous revision", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const start = clock.now()
    await append(store, scope, "s", events(1))
    clock.set(start - 60_000)
    const { recordedMs } = await append(store, scope, "s", events(1))
    clock.set(start)
    assert.equal(recordedMs, start)
  })

  it("refuses an append whose scope has ended", async () => {
    const { store } = get()
    const scope = fresh()
    await rejects(append(store, { ...scope, deadlineMs: 1 }, "s", events(1)), "DEADLINE_EXCEEDED")
    await rejects(store.getStream(scope, "s"), "NOT_FOUND")
  })
}

function parsed(text: string | undefined): unknown {
  return text === undefined ? undefined : JSON.parse(text)
}

function contentOf(
  data: { kind: "json"; text?: string; value?: unknown } | { kind: "binary"; bytes: Uint8Array } | undefined,
): unknown {
  if (data === undefined) return undefined
  if (data.kind === "binary") return [...data.bytes]
  return data.text === undefined ? data.value : JSON.parse(data.text)
}

function expecting(get: Get<EventStore>, fresh: Get<CallScope>): void {
  it("appends only where the stream is as expected, and says how it is", async () => {
    const [store, scope] = [get(), fresh()]
    const missing = await rejects(
      append(store, scope, "s", events(1), { kind: "stream_exists" }),
      "REVISION_MISMATCH",
    )
    assert.match(missing.message, /^stream "s" does not exist yet; /)
    assert.deepEqual(missing.metadata, {
      resource: "stream",
      name: "s",
      expected: "stream_exists",
      actual: "0",
    })
    await rejects(append(store, scope, "s", events(1), exactly(1)), "REVISION_MISMATCH")
    await append(store, scope, "s", events(2), exactly(0))
    const lost = await rejects(
      append(store, scope, "s", events(1), { kind: "no_stream" }),
      "REVISION_MISMATCH",
    )
    assert.equal(lost.metadata.expected, "0")
    assert.equal(lost.metadata.actual, "2")
    await rejects(append(store, scope, "s", events(1), exactly(1)), "REVISION_MISMATCH")
    await rejects(append(store, scope, "s", events(1), exactly(3)), "REVISION_MISMATCH")
    assert.equal((await append(store, scope, "s", events(1), exactly(2))).lastRevision, 3n)
    assert.equal((await append(store, scope, "s", events(1), { kind: "stream_exists" })).lastRevision, 4n)
    assert.equal((await readAll(store, scope, "s")).length, 4)
  })

  it("writes nothing of a batch that is refused", async () => {
    const [store, scope] = [get(), fresh()]
    await append(store, scope, "s", [event({ eventId: uuid(1) })])
    const mixed = [event(), event({ eventId: uuid(1) })]
    await rejects(append(store, scope, "s", mixed, exactly(1)), "CORRUPTED_IDEMPOTENCY")
    assert.equal((await store.getStream(scope, "s")).head, 1n)
    assert.equal((await readWholeFeed(store, scope)).length, 1)
  })
}

function repeating(get: Get<EventStore>, fresh: Get<CallScope>): void {
  const ids = (...numbers: number[]) => numbers.map((n) => event({ eventId: uuid(n) }))

  it("answers a repetition after an exact revision with the original revisions", async () => {
    const [store, scope] = [get(), fresh()]
    await append(store, scope, "s", ids(1))
    const original = await append(store, scope, "s", ids(2, 3, 4), exactly(1))
    await append(store, scope, "s", ids(5))
    const again = await append(store, scope, "s", ids(2, 3, 4), exactly(1))
    assert.deepEqual(again, { ...original, repeated: true })
    assert.equal((await append(store, scope, "s", ids(1), { kind: "no_stream" })).firstRevision, 1n)
    assert.equal((await readAll(store, scope, "s")).length, 5)
  })

  it("tells a lost race from a corrupted repetition", async () => {
    const [store, scope] = [get(), fresh()]
    await append(store, scope, "s", ids(1, 2, 3))
    await rejects(append(store, scope, "s", ids(9, 2), exactly(0)), "REVISION_MISMATCH")
    await rejects(append(store, scope, "s", ids(2, 3), exactly(0)), "REVISION_MISMATCH")
    await rejects(append(store, scope, "s", ids(1, 9), exactly(0)), "CORRUPTED_IDEMPOTENCY")
    await rejects(append(store, scope, "s", ids(1, 3), exactly(0)), "CORRUPTED_IDEMPOTENCY")
    await rejects(append(store, scope, "s", ids(3, 4), exactly(2)), "CORRUPTED_IDEMPOTENCY")
    await rejects(append(store, scope, "s", ids(1), exactly(3)), "CORRUPTED_IDEMPOTENCY")
    assert.equal((await store.getStream(scope, "s")).head, 3n)
  })

  it("finds a repetition without an exact revision wherever it is in the stream", async () => {
    const [store, scope] = [get(), fresh()]
    const original = await append(store, scope, "s", ids(1, 2))
    for (let n = 0; n < 3; n++) await append(store, scope, "s", events(100))
    for (const expected of [{ kind: "any" }, { kind: "stream_exists" }] as const) {
      const again = await append(store, scope, "s", ids(1, 2), expected)
      assert.deepEqual(again, { ...original, repeated: true })
      assert.equal((await append(store, scope, "s", ids(2), expected)).firstRevision, 2n)
      await rejects(append(store, scope, "s", ids(2, 1), expected), "CORRUPTED_IDEMPOTENCY")
      await rejects(append(store, scope, "s", ids(2, 9), expected), "CORRUPTED_IDEMPOTENCY")
      await rejects(append(store, scope, "s", ids(9, 1), expected), "CORRUPTED_IDEMPOTENCY")
    }
    assert.equal((await append(store, scope, "other", ids(1, 2))).repeated, false)
    assert.equal((await store.getStream(scope, "s")).head, 302n)
  })

  it("appends one batch once when many send it at the same time", async () => {
    const [store, scope] = [get(), fresh()]
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => append(store, scope, "s", ids(1, 2, 3))),
    )
    assert.equal(answers.filter(({ repeated }) => !repeated).length, 1)
    for (const answer of answers) assert.equal(answer.lastRevision, 3n)
    assert.equal((await readAll(store, scope, "s")).length, 3)
  })

  it("replays a request_id, refuses it with another body, and frees it after a failure", async () => {
    const [store, scope] = [get(), fresh()]
    const first = await append(store, withRequestId(scope, "r", 1), "s", events(2))
    await append(store, scope, "s", events(1))
    assert.deepEqual(await append(store, withRequestId(scope, "r", 1), "s", events(2)), first)
    await rejects(append(store, withRequestId(scope, "r", 2), "s", events(1)), "REQUEST_ID_REUSED")
    await rejects(
      append(store, withRequestId(scope, "f", 1), "s", events(1), exactly(9)),
      "REVISION_MISMATCH",
    )
    await append(store, withRequestId(scope, "f", 2), "s", events(1))
    assert.equal((await store.getStream(scope, "s")).head, 4n)
    await append(store, withRequestId(fresh(), "r", 9), "s", events(1))
  })

  it("replays request_ids that come together with others", async () => {
    const [store, scope] = [get(), fresh()]
    const calls = Array.from({ length: 60 }, (_, n) =>
      append(store, withRequestId(scope, `r${n % 20}`, n % 20), `s-${n % 5}`, events(1)),
    )
    const answers = await Promise.all(calls)
    for (const [n, answer] of answers.entries()) assert.deepEqual(answer, answers[n % 20])
    assert.equal((await readWholeFeed(store, scope)).length, 20)
    const other = Promise.all([
      append(store, withRequestId(scope, "x", 1), "s-0", events(1)),
      rejects(append(store, withRequestId(scope, "x", 2), "s-0", events(1)), "REQUEST_ID_REUSED"),
    ])
    await other
  })
}

function racing(get: Get<EventStore>, fresh: Get<CallScope>): void {
  it("lets exactly one of 20 first appends win", async () => {
    const [store, scope] = [get(), fresh()]
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () => append(store, scope, "s", events(1), { kind: "no_stream" })),
    )
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1)
    assert.equal((await readAll(store, scope, "s")).length, 1)
  })

  it("keeps 4 streams under 16 writers without gaps, duplicates or mismatches", async () => {
    const [store, scope] = [get(), fresh()]
    const acknowledged = new Map<string, string>()
    let random = 1
    const next = (below: number): number => {
      random = (random * 48_271) % 2_147_483_647
      return random % below
    }
    let conflicts = 0
    const writer = async (): Promise<void> => {
      const heads = [0, 0, 0, 0]
      for (let round = 0; round < 25; round++) {
        const at = next(4)
        const size = 1 + next(4)
        const expected = Math.max(0, (heads[at] ?? 0) + (next(4) === 0 ? next(5) - 2 : 0))
        try {
          const answer = await append(store, scope, `s-${at}`, events(size), exactly(expected))
          assert.equal(answer.firstRevision, BigInt(expected + 1))
          for (const [i, id] of answer.eventIds.entries()) {
            const place = `s-${at}@${answer.firstRevision + BigInt(i)}`
            assert.ok(!acknowledged.has(place), place)
            acknowledged.set(place, id)
          }
          heads[at] = Number(answer.lastRevision)
        } catch (error) {
          const lost = await rejects(Promise.reject(error), "REVISION_MISMATCH")
          conflicts++
          heads[at] = Number(lost.metadata.actual)
        }
      }
    }
    await Promise.all(Array.from({ length: 16 }, writer))
    assert.ok(conflicts > 0)
    let kept = 0
    for (let at = 0; at < 4; at++) {
      for (const [i, { revision, eventId }] of (await readAll(store, scope, `s-${at}`)).entries()) {
        assert.equal(revision, BigInt(i + 1))
        assert.equal(eventId, acknowledged.get(`s-${at}@${revision}`))
        kept++
      }
    }
    assert.equal(kept, acknowledged.size)
  })
}

function reading(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("reads a stream both ways, from a revision, to a limit and to a time", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const start = clock.now()
    for (let n = 0; n < 6; n++) {
      await append(store, scope, "s", events(100))
      clock.advance(1_000)
    }
    const revisions = async (range: Parameters<typeof readAll>[3]) =>
      (await readAll(store, scope, "s", range)).map(({ revision }) => Number(revision))
    const upwards = Array.from({ length: 600 }, (_, i) => i + 1)
    assert.deepEqual(await revisions({}), upwards)
    assert.deepEqual(await revisions({ backwards: true }), upwards.toReversed())
    assert.deepEqual(await revisions({ from: 590n, limit: 5n }), [590, 591, 592, 593, 594])
    assert.deepEqual(await revisions({ from: 3n, backwards: true }), [3, 2, 1])
    assert.deepEqual(await revisions({ from: 700n }), [])
    assert.deepEqual(await revisions({ limit: 300n }), upwards.slice(0, 300))
    assert.deepEqual(await revisions({ untilMs: start + 2_000 }), upwards.slice(0, 300))
    assert.deepEqual(await revisions({ untilMs: start + 2_000, backwards: true, limit: 2n }), [300, 299])
    assert.deepEqual(await revisions({ untilMs: start - 1 }), [])
    assert.deepEqual(await revisions({ untilMs: start - 1, backwards: true }), [])
    assert.deepEqual(await revisions({ untilMs: start + 99_000 }), upwards)
    await rejects(readAll(store, scope, "absent"), "NOT_FOUND")
  })

  it("cuts pages by bytes, and loses nothing", async () => {
    const { store } = get()
    const scope = fresh()
    const big = event({ data: { kind: "binary", bytes: new Uint8Array(900_000) } })
    for (let n = 0; n < 5; n++) await append(store, scope, "s", [big])
    const read = { stream: "s", backwards: false, from: 1n, types: [], limit: 256 }
    const page = await store.readStream(scope, read)
    assert.ok(page.events.length >= 1 && page.events.length * 900_000 <= MAX_READ_BYTES + 900_000)
    assert.equal(page.more, true)
    assert.equal((await readAll(store, scope, "s")).length, 5)
    assert.equal((await readAll(store, scope, "s", { backwards: true })).length, 5)
    assert.equal((await readWholeFeed(store, scope)).length, 5)
    assert.equal((await readWholeFeed(store, scope, { types: ["t"] })).length, 5)
  })

  it("reads the feed by category, type and time", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const start = clock.now()
    await append(store, scope, "a-1", [event({ type: "x" }), event({ type: "y" })])
    await append(store, scope, "b-1", [event({ type: "x" })])
    clock.advance(1_000)
    await append(store, scope, "a", [event({ type: "z" })])
    await append(store, scope, "a-2", [event({ type: "y" })])
    const names = async (range: Parameters<typeof readWholeFeed>[2]) =>
      (await readWholeFeed(store, scope, range)).map((each) => `${each.stream}:${each.type}`)
    assert.deepEqual(await names({}), ["a-1:x", "a-1:y", "b-1:x", "a:z", "a-2:y"])
    assert.deepEqual(await names({ category: "a" }), ["a-1:x", "a-1:y", "a:z", "a-2:y"])
    assert.deepEqual(await names({ types: ["x", "z"] }), ["a-1:x", "b-1:x", "a:z"])
    assert.deepEqual(await names({ category: "a", types: ["y"] }), ["a-1:y", "a-2:y"])
    assert.deepEqual(await names({ fromMs: start + 1_000 }), ["a:z", "a-2:y"])
    assert.deepEqual(await names({ toMs: start + 1_000, types: ["x"] }), ["a-1:x", "b-1:x"])
    assert.deepEqual(await names({ category: "A" }), [])
  })

  it("reads a long feed with few matches without end", async () => {
    const { store } = get()
    const scope = fresh()
    await append(store, scope, "s", [event({ type: "rare" })])
    for (let n = 0; n < 45; n++) await append(store, scope, "s", events(100))
    await append(store, scope, "s", [event({ type: "rare" })])
    const found = await readWholeFeed(store, scope, { types: ["rare"] })
    assert.deepEqual(
      found.map(({ revision }) => revision),
      [1n, 4_502n],
    )
  })

  it("resumes the feed from any cursor under concurrent appends, each event once and in its stream's order", async () => {
    const { store } = get()
    const scope = fresh()
    let writing = true
    const writers = Promise.all(
      Array.from({ length: 8 }, async (_, n) => {
        for (let round = 0; round < 30; round++) await append(store, scope, `s-${(n + round) % 5}`, events(2))
      }),
    ).finally(() => {
      writing = false
    })
    const heads = new Map<string, bigint>()
    let after: readonly string[] | undefined
    let seen = 0
    for (let done = false; !done; ) {
      const last: boolean = !writing
      const page = await store.readFeed(scope, { types: [], after, limit: 7 })
      for (const { event: each } of page.events) {
        assert.equal(each.revision, (heads.get(each.stream) ?? 0n) + 1n)
        heads.set(each.stream, each.revision)
        seen++
      }
      after = page.end
      done = last && !page.more
    }
    await writers
    assert.equal(seen, 480)
    await rejects(
      store.readFeed(scope, { types: [], after: ["x", "1", "2"], limit: 1 }),
      "INVALID_RESUME_TOKEN",
    )
    await rejects(
      store.readFeed(scope, { types: [], after: ["feed", "1", "' or"], limit: 1 }),
      "INVALID_RESUME_TOKEN",
    )
  })
}

function listing(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("lists streams by category, prefix and filter, page by page in byte order", async () => {
    const { store } = get()
    const scope = fresh()
    const names = ["B-1", "a", "a-1", "a-10", "a-2", "b-1", "é-1", "\u{1f680}-1"]
    for (const [at, name] of names.entries()) await append(store, scope, name, events(at + 1))
    const list = async (query: { category?: string; prefix?: string; filter?: string }, size = 3) => {
      const found: string[] = []
      const filter = parseFilter(query.filter ?? "", STREAM_FILTER_FIELDS)
      for (let cursor: readonly string[] | undefined, more = true; more; ) {
        const page = await store.listStreams(
          scope,
          { ...query, filter, showDeleted: false },
          { size, cursor },
        )
        assert.ok(page.items.length <= size)
        found.push(...page.items.map(({ stream }) => stream))
        cursor = page.next
        more = cursor !== undefined
      }
      return found
    }
    assert.deepEqual(await list({}), names)
    assert.deepEqual(await list({}, 8), names)
    assert.deepEqual(await list({ category: "a" }), ["a", "a-1", "a-10", "a-2"])
    assert.deepEqual(await list({ prefix: "a-1" }), ["a-1", "a-10"])
    assert.deepEqual(await list({ prefix: "\u{1f680}" }), ["\u{1f680}-1"])
    assert.deepEqual(await list({ prefix: "%" }), [])
    assert.deepEqual(await list({ filter: 'revision > 2 AND category = "a"' }), ["a-1", "a-10", "a-2"])
    assert.deepEqual(await list({ filter: "deleted = true" }), [])
  })
}

function hiding(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("hides what is truncated at once, everywhere, and reclaims it later", async () => {
    const { store } = get()
    const scope = fresh()
    await append(store, scope, "s", events(10))
    await rejects(store.truncateStream(scope, "s", 12n, "{}"), "FAILED_PRECONDITION")
    assert.equal((await store.truncateStream(scope, "s", 4n, "{}")).first, 4n)
    assert.equal((await store.truncateStream(scope, "s", 2n, "{}")).first, 4n)
    const check = async () => {
      assert.equal((await readAll(store, scope, "s"))[0]?.revision, 4n)
      assert.equal((await readAll(store, scope, "s", { backwards: true })).length, 7)
      assert.equal((await readAll(store, scope, "s", { from: 2n, backwards: true })).length, 0)
      assert.equal((await readWholeFeed(store, scope)).length, 7)
    }
    await check()
    while ((await store.sweep(systemScope(), 2)) > 0) await check()
    await check()
    assert.equal((await append(store, scope, "s", events(1), exactly(10))).firstRevision, 11n)
    assert.equal((await store.truncateStream(scope, "s", 12n, "{}")).first, 12n)
    assert.deepEqual(await readAll(store, scope, "s"), [])
    assert.equal((await append(store, scope, "s", events(1), exactly(11))).firstRevision, 12n)
    await rejects(store.truncateStream(scope, "absent", 1n, "{}"), "NOT_FOUND")
  })

  it("leaves a tombstone that refuses everything for ever", async () => {
    const { store } = get()
    const scope = fresh()
    await rejects(store.deleteStream(scope, "s", undefined), "NOT_FOUND")
    await append(store, scope, "s", [event({ eventId: uuid(1) }), event()])
    const lost = await rejects(store.deleteStream(scope, "s", 1n), "REVISION_MISMATCH")
    assert.equal(lost.metadata.actual, "2")
    const tombstone = await store.deleteStream(scope, "s", 2n)
    assert.ok(tombstone.deletedMs !== undefined)
    assert.deepEqual(await store.deleteStream(scope, "s", undefined), tombstone)
    const check = async () => {
      for (const expected of [
        { kind: "any" },
        { kind: "no_stream" },
        { kind: "stream_exists" },
        exactly(2),
      ] as const) {
        await rejects(append(store, scope, "s", events(1), expected), "STREAM_DELETED")
      }
      await rejects(append(store, scope, "s", [event({ eventId: uuid(1) })]), "STREAM_DELETED")
      await rejects(readAll(store, scope, "s"), "STREAM_DELETED")
      await rejects(store.truncateStream(scope, "s", 1n, "{}"), "STREAM_DELETED")
      assert.deepEqual(await readWholeFeed(store, scope), [])
      assert.deepEqual((await store.listStreams(scope, { showDeleted: false }, { size: 9 })).items, [])
      assert.equal((await store.listStreams(scope, { showDeleted: true }, { size: 9 })).items.length, 1)
    }
    await check()
    while ((await store.sweep(systemScope(), 100)) > 0);
    await check()
  })

  it("deletes and appends at the same time without an event after the tombstone", async () => {
    const { store } = get()
    const scope = fresh()
    await append(store, scope, "s", events(1))
    const [deleted] = await Promise.all([
      store.deleteStream(scope, "s", undefined),
      ...Array.from({ length: 10 }, () => append(store, scope, "s", events(1)).catch(() => undefined)),
    ])
    const after = await store.getStream(scope, "s")
    assert.equal(after.head, deleted.head)
    assert.deepEqual(await readWholeFeed(store, scope), [])
  })
}
