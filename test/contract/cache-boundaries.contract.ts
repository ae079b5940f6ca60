/** What every cache engine must do at its limits: capacity, repetition, deadlines, close. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Addition } from "../../src/domain/cache/operations.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import {
  type CacheHarness,
  fails,
  op,
  prepared,
  put,
  read,
  repeatable,
  space,
  text,
} from "./cache-support.ts"

/** Registers the suite. */
export function cacheBoundariesContract(make: () => Promise<CacheHarness>): void {
  describe("cache limits", () => boundaries(make))
}

function boundaries(make: () => Promise<CacheHarness>): void {
  const { store, fresh, clock } = prepared(make)

  it("evicts the least recently used beyond the namespace's number of keys", async () => {
    const scope = fresh()
    const few = space("few")
    const revisions = []
    for (const key of ["a", "b", "c"]) revisions.push((await put(store(), scope, key, key, few)).revision)
    assert.equal(await read(store(), scope, "a", few), "a")
    await put(store(), scope, "d", "d", few)
    const left = await store().batchGet(scope, few, ["a", "b", "c", "d"])
    assert.deepEqual(
      left.map((entry) => entry?.content.value),
      ["a", undefined, "c", "d"],
    )
    const again = await put(store(), scope, "b", "b", few)
    assert.ok(revisions.every((revision) => again.revision > revision))
  })

  it("evicts beyond the namespace's bytes, and refuses what would not fit alone", async () => {
    const scope = fresh()
    const small = space("small")
    const half = "x".repeat(900_000)
    for (const key of ["a", "b", "c"]) await put(store(), scope, key, half, small)
    const left = await store().batchGet(scope, small, ["a", "b", "c"])
    assert.deepEqual(
      left.map((entry) => entry !== undefined),
      [false, true, true],
    )
    const values = [text(half), text(half), text(half)]
    await fails("LIMIT_EXCEEDED", () =>
      store().write(scope, op({ kind: "listPush", key: "l", values, namespace: small })),
    )
    assert.equal(
      (await store().read(scope, op({ kind: "listRange", key: "l", namespace: small }))).found,
      false,
    )
  })

  it("refuses an answer that no client would take", async () => {
    const scope = fresh()
    const keys = Array.from({ length: 5 }, (_, index) => `k${index}`)
    for (const key of keys) await put(store(), scope, key, "x".repeat(1_000_000))
    await fails("LIMIT_EXCEEDED", () => store().batchGet(scope, space(), keys))
    assert.equal((await store().batchGet(scope, space(), keys.slice(0, 3))).length, 3)
  })

  it("adds whole numbers exactly, up to the ends of int64 and no further", async () => {
    const scope = fresh()
    const doubles = 2n ** 53n
    const most = 2n ** 63n - 1n
    for (const [name, from, delta] of [
      ["up", doubles - 1n, 1n],
      ["odd", doubles, 1n],
      ["down", -doubles, -1n],
      ["wide", most - 10n, 10n],
      ["low", -most, -1n],
      ["across", -most - 1n, most],
    ] as const) {
      const adding = (by: bigint) =>
        ({ case: "integer", delta: by, initial: from, minimum: undefined, maximum: undefined }) as const
      for (const write of [
        (addition: Addition) => store().write(scope, op({ kind: "increment", key: name, addition })),
        (addition: Addition) =>
          store().write(scope, op({ kind: "hashIncrement", key: "fields", name, addition })),
      ]) {
        assert.equal((await write(adding(0n))).sum.value, from, name)
        assert.equal((await write(adding(delta))).sum.value, from + delta, name)
      }
      assert.equal(await read(store(), scope, name), from + delta)
      await put(store(), scope, `${name} as text`, String(from))
      const added = await store().write(
        scope,
        op({ kind: "increment", key: `${name} as text`, addition: adding(delta) }),
      )
      assert.equal(added.sum.value, from + delta)
    }
    const one = { case: "integer", delta: 1n, initial: 0n, minimum: undefined, maximum: undefined } as const
    await fails("FAILED_PRECONDITION", () =>
      store().write(scope, op({ kind: "increment", key: "wide", addition: one })),
    )
    assert.equal(await read(store(), scope, "wide"), most)
  })

  it("answers a repeated request_id as the first time, without a second effect", async () => {
    const scope = fresh()
    const addition = {
      case: "integer",
      delta: 1n,
      initial: 0n,
      minimum: undefined,
      maximum: undefined,
    } as const
    const add = (id: string, body?: string) =>
      store().write(repeatable(scope, id, body), op({ kind: "increment", key: "n", addition }))
    const first = await add("one")
    assert.deepEqual(await add("one"), first)
    await add("two")
    assert.deepEqual(await add("one"), first)
    assert.equal(await read(store(), scope, "n"), 2n)
    const error = await fails("REQUEST_ID_REUSED", () => add("one", "another body"))
    assert.equal(error.metadata.request_id, "one")
    assert.equal(await read(store(), scope, "n"), 2n)
  })

  it("keeps request_ids apart by tenant and method, and does not remember failures", async () => {
    const [ada, bob] = [fresh(), fresh()]
    const pop = (scope: CallScope, method?: string) =>
      store().write(repeatable(scope, "id", "body", method), op({ kind: "listPop", key: "l" }))
    for (const scope of [ada, bob]) {
      await store().write(scope, op({ kind: "listPush", key: "l", values: [text("a"), text("b")] }))
    }
    assert.deepEqual((await pop(ada)).values, [text("b")])
    assert.deepEqual((await pop(bob)).values, [text("b")])
    assert.deepEqual((await pop(ada, "other")).values, [text("a")])
    assert.deepEqual((await pop(ada)).values, [text("b")])
    const wrong = repeatable(ada, "later")
    const set = () => store().write(wrong, op({ kind: "set", key: "k", ...text("v"), ifRevision: 0n }))
    await put(store(), ada, "k", "in the way")
    await fails("REVISION_MISMATCH", set)
    await store().write(ada, op({ kind: "delete", key: "k" }))
    assert.equal((await set()).applied, true)
  })

  it("does nothing past the deadline", async () => {
    const scope = fresh()
    const late = { ...scope, deadlineMs: clock().now() }
    await fails("DEADLINE_EXCEEDED", () => store().write(late, op({ kind: "set", key: "k", ...text("v") })))
    await fails("DEADLINE_EXCEEDED", () => store().get(late, space(), "k"))
    assert.equal(await read(store(), scope, "k"), undefined)
  })

  it("refuses every call after close", async () => {
    const { store: closing } = await make()
    const scope = fresh()
    await closing.close()
    await fails("STORE_UNAVAILABLE", () => closing.get(scope, space(), "k"))
    await fails("STORE_UNAVAILABLE", () => closing.write(scope, op({ kind: "set", key: "k", ...text("v") })))
    await fails("STORE_UNAVAILABLE", () => closing.execute(scope, [], false))
  })
}
