/** The event log over a store: following and states. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import fc from "fast-check"
import { EventLog } from "../../src/domain/event/event-log.ts"
import type { FollowFrame, Following } from "../../src/domain/event/follow-events.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { JsonObject, JsonValue } from "../../src/domain/kernel/json.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { append, type EventHarness, event, events, rejects } from "./event-support.ts"

/** Registers the suite. */
export function eventLogContract(make: () => Promise<EventHarness>): void {
  describe("event log", () => {
    let harness: EventHarness
    before(async () => {
      harness = await make()
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())
    following(() => harness, fresh)
    folding(() => harness, fresh)
  })
}

type Get<T> = () => T

const QUICK = { pollMs: [5, 10] as const, heartbeatMs: 20, stallMs: 60_000 }
const ALL: Following = { source: { kind: "all" }, types: [], start: { kind: "beginning" } }

/** Collects frames until `enough` says so; the call is cancelled then. */
async function collect(
  log: EventLog,
  scope: CallScope,
  wanted: Following,
  enough: (frames: readonly FollowFrame[]) => boolean,
): Promise<FollowFrame[]> {
  const frames: FollowFrame[] = []
  if (enough(frames)) return frames
  for await (const frame of log.follow(scope, wanted, (cursor) => cursor.join())) {
    frames.push(frame)
    if (enough(frames)) break
  }
  return frames
}

function eventsOf(frames: readonly FollowFrame[]): string[] {
  return frames.flatMap((frame) =>
    frame.kind === "event" ? [`${frame.event.stream}@${frame.event.revision}`] : [],
  )
}

function following(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("catches up, says so, and goes on live, under concurrent writers each event once and in order", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, QUICK)
    const write = async (n: number): Promise<void> => {
      for (let round = 0; round < 30; round++)
        await append(log.store, scope, `c-${(n + round) % 4}`, events(2))
    }
    await write(0)
    const writers = Promise.all([1, 2, 3, 4, 5].map(write))
    const total = 6 * 30 * 2
    const frames = await collect(
      log,
      scope,
      ALL,
      (all) => eventsOf(all).length === total && all.some(isCaughtUp),
    )
    await writers
    const heads = new Map<string, bigint>()
    for (const frame of frames) {
      if (frame.kind !== "event") continue
      const { stream, revision } = frame.event
      assert.equal(revision, (heads.get(stream) ?? 0n) + 1n)
      heads.set(stream, revision)
    }
    assert.equal(log.followers, 0)
  })

  it("resumes after any frame with exactly what follows it", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, QUICK)
    for (let n = 0; n < 12; n++) await append(store, scope, `c-${n % 3}`, events(1 + (n % 2)))
    for (const source of [
      { kind: "all" },
      { kind: "category", category: "c" },
      { kind: "stream", stream: "c-1" },
    ] as const) {
      const wanted = { ...ALL, source }
      const frames = await collect(log, scope, wanted, (all) => all.some(isCaughtUp))
      const whole = eventsOf(frames)
      assert.equal(whole.length, source.kind === "stream" ? 6 : 18)
      for (const [at, frame] of frames.entries()) {
        const start = { kind: "resume", cursor: frame.cursor } as const
        const rest = await collect(log, scope, { ...wanted, start }, (all) => all.some(isCaughtUp))
        assert.deepEqual(eventsOf(rest), eventsOf(frames.slice(at + 1)))
      }
    }
  })

  it("follows one stream, one category, some types, from now and from a revision", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, QUICK)
    await append(store, scope, "a-1", [event({ type: "x" }), event({ type: "y" }), event({ type: "x" })])
    await append(store, scope, "b-1", events(1))
    const seen = async (wanted: Partial<Following>) =>
      eventsOf(await collect(log, scope, { ...ALL, ...wanted }, (all) => all.some(isCaughtUp)))
    const stream = { kind: "stream", stream: "a-1" } as const
    assert.deepEqual(await seen({}), ["a-1@1", "a-1@2", "a-1@3", "b-1@1"])
    assert.deepEqual(await seen({ source: { kind: "category", category: "b" } }), ["b-1@1"])
    assert.deepEqual(await seen({ types: ["x"] }), ["a-1@1", "a-1@3"])
    assert.deepEqual(await seen({ source: stream, types: ["x"] }), ["a-1@1", "a-1@3"])
    assert.deepEqual(await seen({ source: stream, start: { kind: "revision", revision: 2n } }), [
      "a-1@2",
      "a-1@3",
    ])
    assert.deepEqual(await seen({ start: { kind: "now" } }), [])
    assert.deepEqual(await seen({ source: stream, start: { kind: "now" } }), [])
    await rejects(
      seen({ source: stream, start: { kind: "resume", cursor: ["feed", "1", "1"] } }),
      "INVALID_RESUME_TOKEN",
    )
  })

  it("waits for a stream that does not exist yet, beats while idle, and ends when it is deleted", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, QUICK)
    const wanted = { ...ALL, source: { kind: "stream", stream: "s" } } as const
    const kinds: string[] = []
    const ended = rejects(
      (async () => {
        for await (const frame of log.follow(scope, wanted, (cursor) => cursor.join())) {
          kinds.push(frame.kind)
          if (frame.kind === "heartbeat" && !kinds.includes("event")) await log.append(scope, batch("s"))
          else if (frame.kind === "heartbeat") await store.deleteStream(scope, "s", undefined)
        }
      })(),
      "STREAM_DELETED",
    )
    await ended
    assert.deepEqual(kinds.slice(0, 3), ["caught_up", "heartbeat", "event"])
    assert.equal(log.followers, 0)
  })

  it("hears of its own appends at once, whatever it follows", async () => {
    const { store } = get()
    const scope = fresh()
    const never = 600_000
    const log = new EventLog(store, { pollMs: [never, never], heartbeatMs: never })
    for (const [at, source] of (
      [{ kind: "all" }, { kind: "category", category: "c" }, { kind: "stream", stream: "c-1" }] as const
    ).entries()) {
      const frames = await collect(log, scope, { ...ALL, source, start: { kind: "now" } }, (all) => {
        if (all.length === 1) void log.append(scope, batch("c-1"))
        return eventsOf(all).length === 1
      })
      assert.deepEqual(eventsOf(frames), [`c-1@${at + 1}`])
    }
  })

  it("sees what another daemon appended", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, { ...QUICK, heartbeatMs: 600_000 })
    const frames = await collect(log, scope, ALL, (all) => {
      // Straight to the store: nothing wakes this log.
      if (all.length === 1) void append(store, scope, "s", events(1))
      return eventsOf(all).length === 1
    })
    assert.deepEqual(
      frames.map(({ kind }) => kind),
      ["caught_up", "event"],
    )
  })

  it("cuts off a consumer that takes nothing, with the token of the last frame", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store, { ...QUICK, stallMs: 1 })
    await append(store, scope, "s", events(3))
    const frames = log.follow(scope, ALL, (cursor) => cursor.join())
    const first = await frames.next()
    assert.ok(!first.done)
    let slow: unknown
    while (slow === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 5))
      slow = await frames.next().then(
        () => undefined,
        (error: unknown) => error,
      )
    }
    assert.ok(slow instanceof DomainError)
    assert.equal(slow.reason, "SLOW_CONSUMER")
    assert.match(slow.metadata.resume_token ?? "", /^feed,/)
    assert.equal(log.followers, 0)
  })

  it("ends with the call", async () => {
    const { store } = get()
    const controller = new AbortController()
    const scope = { ...fresh(), signal: controller.signal }
    const log = new EventLog(store, { ...QUICK, heartbeatMs: 600_000 })
    const ended = rejects(
      collect(log, scope, ALL, (all) => {
        if (all.some(isCaughtUp)) controller.abort()
        return false
      }),
      "CANCELLED",
    )
    await ended
    assert.equal(log.followers, 0)
  })
}

function isCaughtUp({ kind }: FollowFrame): boolean {
  return kind === "caught_up"
}

function batch(stream: string) {
  return {
    stream,
    expected: { kind: "any" },
    events: [
      {
        eventId: crypto.randomUUID(),
        idGiven: false,
        type: "t",
        contentType: "",
        correlationId: "",
        causationId: "",
        traceParent: "",
        size: 1,
      },
    ],
  } as const
}

/** RFC 7396, as its text defines it. */
function merged(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch
  const base = typeof target === "object" && target !== null && !Array.isArray(target) ? target : {}
  const entries = new Map<string, JsonValue>(Object.entries(base))
  for (const [key, change] of Object.entries(patch)) {
    if (change === null) entries.delete(key)
    else entries.set(key, merged(entries.get(key), change))
  }
  return Object.fromEntries(entries)
}

const KEYS = fc.constantFrom("a", "b", "c", "__proto__", "constructor", "")
const VALUE: fc.Arbitrary<JsonValue> = fc.letrec<{ value: JsonValue; object: JsonObject }>((tie) => ({
  object: fc.array(fc.tuple(KEYS, tie("value")), { maxLength: 4 }).map((pairs) => Object.fromEntries(pairs)),
  value: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.integer(),
    fc.string({ maxLength: 3 }),
    fc.array(fc.integer(), { maxLength: 2 }),
    tie("object"),
  ),
})).value
const PATCH = fc
  .array(fc.tuple(KEYS, VALUE), { maxLength: 4 })
  .map((pairs): JsonObject => Object.fromEntries(pairs))

function folding(get: Get<EventHarness>, fresh: Get<CallScope>): void {
  it("answers the state that a naive fold gives, at every revision and time, with snapshots and truncation", async () => {
    const { store, clock } = get()
    const patches = fc.array(fc.option(PATCH, { nil: undefined }), { minLength: 1, maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(patches, fc.nat(11), fc.nat(11), async (wanted, snapshotAt, cutAt) => {
        const scope = fresh()
        const log = new EventLog(store, { snapshotEvery: 4 })
        const states: JsonValue[] = [{}]
        const times: number[] = [clock.now() - 1]
        for (const [at, statePatch] of wanted.entries()) {
          clock.advance(at % 3)
          await append(store, scope, "s", [event({ statePatch })])
          states.push(merged(states[at], statePatch ?? {}))
          times.push(clock.now())
        }
        const snapshot = BigInt(Math.min(snapshotAt, wanted.length))
        if (snapshot > 0n)
          await log.saveSnapshot(scope, { stream: "s", projection: "", revision: snapshot }, undefined)
        const cut = Math.min(cutAt, wanted.length)
        for (const first of [0, cut]) {
          if (first > 0) await log.truncate(scope, "s", BigInt(first + 1))
          for (let revision = first; revision <= wanted.length; revision++) {
            const found = await log.states.at(scope, "s", { kind: "revision", revision: BigInt(revision) })
            assert.deepEqual(found.state, states[revision])
            assert.equal(found.revision, BigInt(revision))
            const ms = times[revision] ?? 0
            const last = times.findLastIndex((time) => time <= ms)
            // The time of the truncated events is not known any more.
            if (first > 0 && last <= first && last < wanted.length) continue
            const then = await log.states.at(scope, "s", { kind: "time", ms })
            assert.deepEqual(then.state, states[last])
          }
        }
        await log.states.settled()
      }),
      { numRuns: 40 },
    )
  })

  it("keeps a snapshot after a long fold and begins with it the next time", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store)
    for (let n = 0; n < 3; n++) {
      await append(
        store,
        scope,
        "s",
        Array.from({ length: 100 }, (_, i) => event({ statePatch: { [`k${i}`]: n, last: n * 100 + i } })),
      )
    }
    const first = await log.states.at(scope, "s", { kind: "head" })
    assert.equal(first.snapshotRevision, 0n)
    assert.equal(first.state.last, 299)
    await log.states.settled()
    const second = await log.states.at(scope, "s", { kind: "head" })
    assert.equal(second.snapshotRevision, 300n)
    assert.deepEqual(second.state, first.state)
    assert.equal((await log.states.at(scope, "s", { kind: "revision", revision: 150n })).state.last, 149)
  })

  it("refuses points outside of the stream", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store)
    const at = (revision: bigint) => log.states.at(scope, "s", { kind: "revision", revision })
    await rejects(at(0n), "NOT_FOUND")
    await append(store, scope, "s", [
      event({ statePatch: { a: 1 } }),
      event({ statePatch: { b: 2 } }),
      event(),
    ])
    assert.deepEqual((await at(0n)).state, {})
    await rejects(at(4n), "FAILED_PRECONDITION")
    await log.truncate(scope, "s", 3n)
    assert.deepEqual((await at(2n)).state, { a: 1, b: 2 })
    await rejects(at(1n), "FAILED_PRECONDITION")
    await rejects(at(0n), "FAILED_PRECONDITION")
    while ((await store.sweep(systemScope(), 100)) > 0);
    assert.deepEqual((await at(3n)).state, { a: 1, b: 2 })
    await rejects(log.truncate(scope, "s", 5n), "FAILED_PRECONDITION")
    await store.deleteStream(scope, "s", undefined)
    await rejects(at(3n), "STREAM_DELETED")
    await rejects(log.truncate(scope, "s", 4n), "STREAM_DELETED")
  })

  it("hides snapshots with the events that they stand for, at once, and gives back their space", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store)
    const save = (revision: bigint, projection = "p") =>
      log.saveSnapshot(scope, { stream: "s", projection, revision }, projection === "" ? undefined : {})
    const find = async (at?: bigint, projection = "p") =>
      (await store.findSnapshot(scope, "s", projection, at))?.revision
    await append(store, scope, "s", events(5, { statePatch: { own: true } }))
    for (const revision of [1n, 2n, 3n]) await save(revision)
    await save(1n, "q")
    await log.truncate(scope, "s", 3n)
    const check = async () => {
      assert.equal(await find(), 3n)
      assert.equal(await find(2n), 2n)
      assert.equal(await find(1n), undefined)
      assert.equal(await find(undefined, "q"), undefined)
      assert.equal(await find(undefined, ""), 2n)
      await rejects(save(1n), "FAILED_PRECONDITION")
      await rejects(save(1n, ""), "FAILED_PRECONDITION")
    }
    await check()
    while ((await store.sweep(systemScope(), 100)) > 0);
    await check()
    await log.truncate(scope, "s", 6n)
    assert.equal(await find(), undefined)
    await save(5n)
    while ((await store.sweep(systemScope(), 100)) > 0);
    await store.deleteStream(scope, "s", undefined)
    await rejects(find(), "STREAM_DELETED")
    await rejects(find(undefined, ""), "STREAM_DELETED")
    await rejects(log.states.at(scope, "s", { kind: "head" }), "STREAM_DELETED")
    assert.equal(await store.sweep(systemScope(), 100), 1)
    assert.equal(await store.sweep(systemScope(), 100), 0)
    await rejects(find(), "STREAM_DELETED")
    assert.equal(await store.findSnapshot(scope, "absent", "p", undefined), undefined)
  })

  it("keeps callers' projections apart and finds the newest at or before a revision", async () => {
    const { store } = get()
    const scope = fresh()
    const log = new EventLog(store)
    await append(store, scope, "s", events(5, { statePatch: { own: true } }))
    const save = (projection: string, revision: bigint, state?: JsonObject) =>
      log.saveSnapshot(scope, { stream: "s", projection, revision }, state)
    await save("p", 2n, { n: 2 })
    await save("p", 4n, { n: 4 })
    await save("P", 3n, { n: 33 })
    await save("p", 4n, { n: 44, s: "\u0000" })
    assert.equal((await save("p2", 0n, {})).revision, 5n)
    const find = async (projection: string, at?: bigint) =>
      (await store.findSnapshot(scope, "s", projection, at))?.state
    assert.equal(await find("p"), JSON.stringify({ n: 44, s: "\u0000" }))
    assert.equal(await find("p", 3n), '{"n":2}')
    assert.equal(await find("p", 1n), undefined)
    assert.equal(await find("P"), '{"n":33}')
    assert.equal(await find(""), undefined)
    assert.deepEqual((await log.states.at(scope, "s", { kind: "head" })).state, { own: true })
    await rejects(save("p", 6n, {}), "FAILED_PRECONDITION")
    await rejects(save("p", 1n), "INVALID_FIELD")
    await rejects(save("", 1n, {}), "INVALID_FIELD")
    await rejects(save("", 6n), "FAILED_PRECONDITION")
    await rejects(log.saveSnapshot(scope, { stream: "x", projection: "p", revision: 0n }, {}), "NOT_FOUND")
  })
}
