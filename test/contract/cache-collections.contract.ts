/** What every cache engine must do with hashes, lists and sorted sets. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { SortedSetRangeOperation } from "../../src/domain/cache/operations.ts"
import type { CacheStore } from "../../src/domain/cache/ports.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { type CacheHarness, fails, op, prepared, space, text } from "./cache-support.ts"

/** Registers the suite. */
export function cacheCollectionsContract(make: () => Promise<CacheHarness>): void {
  describe("cache collections", () => {
    const { store, fresh } = prepared(make)
    hashes(store, fresh)
    lists(store, fresh)
    sortedSets(store, fresh)
  })
}

type Fresh = () => CallScope
type Store = () => CacheStore

function hashes(store: Store, fresh: Fresh): void {
  const fieldsOf = (pairs: Record<string, string>) =>
    Object.entries(pairs).map(([name, value]) => ({ name, value: text(value) }))

  it("hash: sets, reads and deletes fields, and ends with the last of them", async () => {
    const scope = fresh()
    const made = await store().write(
      scope,
      op({ kind: "hashSet", key: "h", fields: fieldsOf({ b: "1", A: "2", a: "3" }) }),
    )
    assert.deepEqual([made.created, made.length], [3, 3])
    const changed = await store().write(
      scope,
      op({
        kind: "hashSet",
        key: "h",
        fields: fieldsOf({ b: "changed", "": "empty name is refused above" }),
      }),
    )
    assert.deepEqual([changed.created, changed.length], [1, 4])
    assert.ok(changed.revision > made.revision)
    const all = await store().read(scope, op({ kind: "hashGet", key: "h" }))
    assert.deepEqual(
      all.fields.map(({ name }) => name),
      ["b", "A", "a", ""],
    )
    const some = await store().read(scope, op({ kind: "hashGet", key: "h", names: ["a", "absent", "b"] }))
    assert.deepEqual(some.fields, [
      { name: "a", value: text("3") },
      { name: "b", value: text("changed") },
    ])
    assert.equal(some.length, 4)
    const names = ["b", "A", "absent", "b"]
    assert.deepEqual(await store().write(scope, op({ kind: "hashDelete", key: "h", names })), {
      deleted: 2,
      length: 2,
    })
    await store().write(scope, op({ kind: "hashDelete", key: "h", names: ["a", ""] }))
    assert.equal((await store().read(scope, op({ kind: "hashGet", key: "h" }))).found, false)
    assert.equal(await store().write(scope, op({ kind: "delete", key: "h" })), false)
  })

  it("hash: leaves existing fields alone with onlyIfAbsent, and checks the revision", async () => {
    const scope = fresh()
    const set = (pairs: Record<string, string>, rest: object) =>
      store().write(scope, op({ kind: "hashSet", key: "h", fields: fieldsOf(pairs), ...rest }))
    const { revision } = await set({ a: "1" }, { ifRevision: 0n })
    await fails("REVISION_MISMATCH", () => set({ b: "1" }, { ifRevision: 0n }))
    assert.deepEqual(await set({ a: "2" }, { onlyIfAbsent: true }), {
      created: 0,
      length: 1,
      revision,
      expireTimeMs: Number.POSITIVE_INFINITY,
    })
    assert.equal((await set({ a: "2", b: "2" }, { onlyIfAbsent: true, ifRevision: revision })).created, 1)
    const { fields } = await store().read(scope, op({ kind: "hashGet", key: "h" }))
    assert.deepEqual(
      fields.map(({ value }) => value.content.value),
      ["1", "2"],
    )
  })

  it("hash: adds to fields, and refuses more of them than the namespace allows", async () => {
    const scope = fresh()
    const addition = { case: "integer", delta: 2n, initial: 1n, minimum: undefined, maximum: 5n } as const
    const add = () => store().write(scope, op({ kind: "hashIncrement", key: "h", name: "n", addition }))
    assert.equal((await add()).sum.value, 3n)
    assert.equal((await add()).sum.value, 5n)
    assert.equal((await add()).applied, false)
    const namespace = space("limited")
    const fields = fieldsOf({ a: "", b: "", c: "" })
    await store().write(scope, op({ kind: "hashSet", key: "h", fields, namespace }))
    await fails("LIMIT_EXCEEDED", () =>
      store().write(scope, op({ kind: "hashSet", key: "h", fields: fieldsOf({ a: "x", d: "" }), namespace })),
    )
    const all = await store().read(scope, op({ kind: "hashGet", key: "h", namespace }))
    assert.deepEqual(all.fields, fields)
  })
}

function lists(store: Store, fresh: Fresh): void {
  const push = (scope: CallScope, end: "head" | "tail", values: string[], rest: object = {}) =>
    store().write(scope, op({ kind: "listPush", key: "l", end, values: values.map(text), ...rest }))
  const all = async (scope: CallScope, rest: object = {}) =>
    (await store().read(scope, op({ kind: "listRange", key: "l", ...rest }))).values.map(
      ({ content }) => content.value,
    )

  it("list: pushes and pops at both ends, in order", async () => {
    const scope = fresh()
    await push(scope, "tail", ["a", "b"])
    assert.equal((await push(scope, "head", ["y", "x"])).length, 4)
    assert.deepEqual(await all(scope), ["x", "y", "a", "b"])
    const pop = (end: "head" | "tail", count: number) =>
      store().write(scope, op({ kind: "listPop", key: "l", end, count }))
    assert.deepEqual(await pop("head", 1), { values: [text("x")], length: 3 })
    assert.deepEqual((await pop("tail", 2)).values, [text("b"), text("a")])
    assert.deepEqual(await pop("tail", 9), { values: [text("y")], length: 0 })
    assert.deepEqual(await pop("tail", 1), { values: [], length: 0 })
    assert.equal((await store().read(scope, op({ kind: "listRange", key: "l" }))).found, false)
  })

  it("list: reads and keeps ranges with indexes from either end", async () => {
    const scope = fresh()
    await push(scope, "tail", ["0", "1", "2", "3", "4"])
    assert.deepEqual(await all(scope, { start: 1, stop: 2 }), ["1", "2"])
    assert.deepEqual(await all(scope, { start: -2 }), ["3", "4"])
    assert.deepEqual(await all(scope, { start: -99, stop: 0 }), ["0"])
    assert.deepEqual(await all(scope, { start: 3, stop: 99 }), ["3", "4"])
    assert.deepEqual(await all(scope, { start: 3, stop: 1 }), [])
    await fails("LIMIT_EXCEEDED", () => all(scope, { maximumItems: 4 }))
    const trim = (start: number, stop: number) =>
      store().write(scope, op({ kind: "listTrim", key: "l", start, stop }))
    assert.deepEqual(await trim(1, -2), { length: 3, dropped: 2 })
    assert.deepEqual(await all(scope), ["1", "2", "3"])
    assert.deepEqual(await trim(0, -1), { length: 3, dropped: 0 })
    assert.deepEqual(await trim(5, 9), { length: 0, dropped: 3 })
    assert.deepEqual(await trim(0, -1), { length: 0, dropped: 0 })
  })

  it("list: cuts the other end to the call's or the namespace's length", async () => {
    const scope = fresh()
    assert.deepEqual((await push(scope, "tail", ["a", "b", "c"], { maximumLength: 2 })).dropped, 1)
    assert.deepEqual(await all(scope), ["b", "c"])
    assert.deepEqual((await push(scope, "head", ["x", "y", "z"], { maximumLength: 2 })).dropped, 3)
    assert.deepEqual(await all(scope), ["z", "y"])
    const namespace = space("limited")
    await push(scope, "tail", ["a", "b", "c", "d"], { namespace, maximumLength: 100 })
    assert.deepEqual(await all(scope, { namespace }), ["b", "c", "d"])
    const absent = await push(scope, "tail", ["a"], { key: "absent", onlyIfPresent: true })
    assert.deepEqual([absent.length, absent.revision], [0, 0n])
  })
}

function sortedSets(store: Store, fresh: Fresh): void {
  const add = (scope: CallScope, members: Record<string, number>, rest: object = {}) =>
    store().write(
      scope,
      op({
        kind: "sortedSetAdd",
        key: "z",
        members: Object.entries(members).map(([member, score]) => ({ member, score })),
        ...rest,
      }),
    )
  const range = async (scope: CallScope, rest: Partial<SortedSetRangeOperation> = {}) =>
    (await store().read(scope, op({ kind: "sortedSetRange", key: "z", ...rest }))).members.map(
      ({ member, rank }) => `${member}${rank}`,
    )
  const score = (minimum: number, maximum: number, minimumExclusive = false, maximumExclusive = false) => ({
    score: { minimum, maximum, minimumExclusive, maximumExclusive },
  })

  it("sorted set: orders by score, then member, and reads by rank", async () => {
    const scope = fresh()
    await add(scope, { d: 2, b: 1, a: 2, c: -0.5 })
    assert.deepEqual(await range(scope), ["c0", "b1", "a2", "d3"])
    assert.deepEqual(await range(scope, { reverse: true }), ["d0", "a1", "b2", "c3"])
    assert.deepEqual(await range(scope, { by: { rank: { start: 1, stop: 2 } } }), ["b1", "a2"])
    assert.deepEqual(await range(scope, { by: { rank: { start: 0, stop: 1 } }, reverse: true }), ["d0", "a1"])
    assert.deepEqual(await range(scope, { by: { rank: { start: -1, stop: -1 } } }), ["d3"])
    assert.deepEqual(await range(scope, { offset: 1, limit: 2 }), ["b1", "a2"])
    assert.deepEqual(await range(scope, { offset: 1, limit: 2, reverse: true }), ["a1", "b2"])
    assert.deepEqual(await range(scope, { by: { rank: { start: 9, stop: 12 } } }), [])
    assert.deepEqual(await range(scope, { offset: 9 }), [])
  })

  it("sorted set: reads by score with open and closed bounds", async () => {
    const scope = fresh()
    await add(scope, { a: 1, b: 2, c: 2, d: 3 })
    const infinity = Number.POSITIVE_INFINITY
    assert.deepEqual(await range(scope, { by: score(2, 3) }), ["b1", "c2", "d3"])
    assert.deepEqual(await range(scope, { by: score(1, 3, true, true) }), ["b1", "c2"])
    assert.deepEqual(await range(scope, { by: score(2, infinity), reverse: true, limit: 2 }), ["d0", "c1"])
    assert.deepEqual(await range(scope, { by: score(-infinity, 1.9) }), ["a0"])
    assert.deepEqual(await range(scope, { by: score(3, 1) }), [])
    assert.deepEqual(await range(scope, { by: score(2, 2, true, true) }), [])
  })

  it("sorted set: writes by condition and tells added from updated", async () => {
    const scope = fresh()
    const counts = async (members: Record<string, number>, condition: string) => {
      const { added, updated } = await add(scope, members, { condition })
      return [added, updated]
    }
    assert.deepEqual(await counts({ a: 1, b: 1 }, "always"), [2, 0])
    assert.deepEqual(await counts({ a: 2, c: 2 }, "ifAbsent"), [1, 0])
    assert.deepEqual(await counts({ a: 5, x: 5 }, "ifPresent"), [0, 1])
    assert.deepEqual(await counts({ a: 4, b: 4 }, "ifGreater"), [0, 1])
    assert.deepEqual(await counts({ a: 3, b: 9, y: 0 }, "ifLess"), [1, 1])
    assert.deepEqual(await counts({ a: 3 }, "always"), [0, 0])
    assert.deepEqual(await range(scope), ["y0", "c1", "a2", "b3"])
  })

  it("sorted set: removes, increments, keeps the highest within the namespace's length", async () => {
    const scope = fresh()
    const by = (member: string, delta: number) =>
      store().write(scope, op({ kind: "sortedSetIncrement", key: "z", member, delta }))
    assert.equal((await by("a", 1.5)).score, 1.5)
    await by("b", 1)
    const moved = await by("a", -1)
    assert.deepEqual([moved.score, moved.rank], [0.5, 0])
    await fails("FAILED_PRECONDITION", async () => {
      await by("a", Number.MAX_VALUE)
      await by("a", Number.MAX_VALUE)
    })
    const remove = (members: string[]) =>
      store().write(scope, op({ kind: "sortedSetRemove", key: "z", members }))
    assert.deepEqual(await remove(["b", "absent", "b"]), { removed: 1, length: 1 })
    assert.deepEqual(await remove(["a"]), { removed: 1, length: 0 })
    assert.equal((await store().read(scope, op({ kind: "sortedSetRange", key: "z" }))).found, false)
    const namespace = space("limited")
    await add(scope, { a: 1, b: 2, c: 3, d: 4 }, { namespace })
    await add(scope, { e: 0 }, { namespace })
    assert.deepEqual(await range(scope, { namespace }), ["b0", "c1", "d2"])
  })
}
