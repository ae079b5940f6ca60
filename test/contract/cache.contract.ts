/** What every cache engine must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Content } from "../../src/domain/cache/model.ts"
import { cacheAtomicityContract } from "./cache-atomicity.contract.ts"
import { cacheBoundariesContract } from "./cache-boundaries.contract.ts"
import { cacheCollectionsContract } from "./cache-collections.contract.ts"
import { cacheLifetimeContract } from "./cache-lifetime.contract.ts"
import { type CacheHarness, fails, op, prepared, put, read, space, text } from "./cache-support.ts"

/** Registers the suite. */
export function cacheContract(make: () => Promise<CacheHarness>): void {
  describe("cache store", () => values(make))
  cacheLifetimeContract(make)
  cacheBoundariesContract(make)
  cacheCollectionsContract(make)
  cacheAtomicityContract(make)
}

function values(make: () => Promise<CacheHarness>): void {
  const { store, fresh } = prepared(make)

  it("keeps each form of value with its media type, empty and binary ones too", async () => {
    const scope = fresh()
    const contents: readonly Content[] = [
      { case: "data", value: new Uint8Array([0, 255, 10]) },
      { case: "data", value: new Uint8Array() },
      { case: "text", value: "" },
      { case: "text", value: "naïve ☃ \u0000 \ud83d\ude00" },
      { case: "json", value: { list: [1, null, { deep: true }], text: "x" } },
      { case: "json", value: null },
      { case: "integer", value: -9_223_372_036_854_775_808n },
      { case: "number", value: 0.1 },
    ]
    for (const [index, content] of contents.entries()) {
      const key = `form-${index}`
      await store().write(scope, op({ kind: "set", key, content, contentType: "a/b" }))
      const entry = await store().get(scope, space(), key)
      assert.deepEqual(entry?.content, content)
      assert.equal(entry?.contentType, "a/b")
    }
  })

  it("does not share memory with the bytes it was given", async () => {
    const scope = fresh()
    const bytes = new Uint8Array([1, 2, 3])
    await store().write(scope, op({ kind: "set", key: "k", content: { case: "data", value: bytes } }))
    bytes.fill(9)
    assert.deepEqual(await read(store(), scope, "k"), new Uint8Array([1, 2, 3]))
  })

  it("compares keys byte for byte, and prototypes' names are keys like others", async () => {
    const scope = fresh()
    const keys = [
      "Key",
      "key",
      "KEY",
      "ключ",
      "e\u0301",
      "é",
      " ",
      "__proto__",
      "constructor",
      "a\u0000b",
      "a",
    ]
    for (const key of keys) await put(store(), scope, key, `value of ${key}`)
    for (const key of keys) assert.equal(await read(store(), scope, key), `value of ${key}`)
    const entries = await store().batchGet(scope, space(), [...keys, "absent", "key"])
    assert.deepEqual(
      entries.map((entry) => entry?.content.value),
      [...keys.map((key) => `value of ${key}`), undefined, "value of key"],
    )
  })

  it("never shows one tenant, or one namespace, another's keys", async () => {
    const [ada, bob] = [fresh(), fresh()]
    await put(store(), ada, "k", "ada's")
    await put(store(), ada, "k", "ada's short", space("short"))
    assert.equal(await read(store(), bob, "k"), undefined)
    await put(store(), bob, "k", "bob's")
    assert.equal(await read(store(), ada, "k"), "ada's")
    assert.equal(await read(store(), ada, "k", space("short")), "ada's short")
    await store().clearNamespace(bob, space())
    assert.equal(await store().write(bob, op({ kind: "delete", key: "k" })), false)
    assert.equal(await read(store(), ada, "k"), "ada's")
  })

  it("raises the revision with every change, also across deletion", async () => {
    const scope = fresh()
    let last = 0n
    for (let round = 0; round < 5; round++) {
      const { revision } = await put(store(), scope, "k", `${round}`)
      assert.ok(revision > last)
      last = revision
      assert.equal((await store().get(scope, space(), "k"))?.revision, revision)
      if (round % 2 === 0) await store().write(scope, op({ kind: "delete", key: "k" }))
    }
  })

  it("writes conditionally, and answers what stands where the condition does not hold", async () => {
    const scope = fresh()
    const set = (condition: "ifAbsent" | "ifPresent", value: string) =>
      store().write(scope, op({ kind: "set", key: "k", ...text(value), condition }))
    assert.deepEqual(await set("ifPresent", "no"), {
      applied: false,
      revision: 0n,
      expireTimeMs: Number.POSITIVE_INFINITY,
    })
    const made = await set("ifAbsent", "first")
    assert.equal(made.applied, true)
    assert.deepEqual(await set("ifAbsent", "no"), { ...made, applied: false })
    assert.equal((await set("ifPresent", "second")).applied, true)
    assert.equal(await read(store(), scope, "k"), "second")
  })

  it("lets one of two writers on one revision win", async () => {
    const scope = fresh()
    const set = (value: string, ifRevision: bigint) =>
      store().write(scope, op({ kind: "set", key: "k", ...text(value), ifRevision }))
    const { revision } = await set("first", 0n)
    const ends = await Promise.allSettled(
      [async () => set("a", revision), async () => set("b", revision)].map((f) => f()),
    )
    assert.deepEqual(ends.map(({ status }) => status).sort(), ["fulfilled", "rejected"])
    const error = await fails("REVISION_MISMATCH", () => set("late", revision))
    assert.equal(error.metadata.expected, String(revision))
    await fails("REVISION_MISMATCH", () => set("not absent", 0n))
    await fails("REVISION_MISMATCH", () =>
      store().write(scope, op({ kind: "delete", key: "k", ifRevision: revision })),
    )
    await fails("REVISION_MISMATCH", () =>
      store().write(scope, op({ kind: "delete", key: "absent", ifRevision: 7n })),
    )
  })

  it("adds whole numbers and doubles, within bounds", async () => {
    const scope = fresh()
    const integer = (
      delta: bigint,
      bounds: { minimum?: bigint; maximum?: bigint; initial?: bigint } = {},
      key = "n",
    ) =>
      store().write(
        scope,
        op({
          kind: "increment",
          key,
          addition: {
            case: "integer",
            delta,
            initial: 0n,
            minimum: undefined,
            maximum: undefined,
            ...bounds,
          },
        }),
      )
    assert.deepEqual((await integer(5n, { initial: 10n })).sum, { case: "integer", value: 15n })
    assert.deepEqual((await integer(-20n)).sum, { case: "integer", value: -5n })
    const refused = await integer(6n, { maximum: 0n })
    assert.deepEqual([refused.applied, refused.sum.value], [false, -5n])
    assert.equal((await integer(5n, { maximum: 0n })).applied, true)
    assert.equal((await integer(-1n, { minimum: 0n })).applied, false)
    await integer(9_223_372_036_854_775_807n)
    await fails("FAILED_PRECONDITION", () => integer(1n))
    assert.equal(await read(store(), scope, "n"), 9_223_372_036_854_775_807n)
    await put(store(), scope, "words", "seven")
    await fails("WRONG_TYPE", () => integer(1n, {}, "words"))
    await put(store(), scope, "digits", "41")
    assert.equal((await integer(1n, {}, "digits")).sum.value, 42n)
    const double = { case: "number", delta: 0.5, initial: 0, minimum: undefined, maximum: undefined } as const
    assert.equal(
      (await store().write(scope, op({ kind: "increment", key: "digits", addition: double }))).sum.value,
      42.5,
    )
    await fails("WRONG_TYPE", () => integer(1n, {}, "digits"))
    await fails("FAILED_PRECONDITION", async () => {
      const huge = { ...double, delta: Number.MAX_VALUE }
      await store().write(scope, op({ kind: "increment", key: "digits", addition: huge }))
      await store().write(scope, op({ kind: "increment", key: "digits", addition: huge }))
    })
  })

  it("loses no addition of many at once", async () => {
    const scope = fresh()
    const addition = {
      case: "integer",
      delta: 1n,
      initial: 0n,
      minimum: undefined,
      maximum: undefined,
    } as const
    const add = async () => store().write(scope, op({ kind: "increment", key: "n", addition }))
    await Promise.all(Array.from({ length: 200 }, add))
    assert.equal(await read(store(), scope, "n"), 200n)
  })

  it("refuses operations of another kind, but a set replaces anything", async () => {
    const scope = fresh()
    await store().write(scope, op({ kind: "listPush", key: "k", values: [text("item")] }))
    const error = await fails("WRONG_TYPE", () => store().get(scope, space(), "k"))
    assert.equal(error.metadata.kind, "list")
    await fails("WRONG_TYPE", () => store().read(scope, op({ kind: "hashGet", key: "k" })))
    await fails("WRONG_TYPE", () =>
      store().write(scope, op({ kind: "sortedSetRemove", key: "k", members: ["m"] })),
    )
    await fails("WRONG_TYPE", () => store().batchGet(scope, space(), ["absent", "k"]))
    await put(store(), scope, "k", "value")
    assert.equal(await read(store(), scope, "k"), "value")
    await fails("WRONG_TYPE", () => store().write(scope, op({ kind: "listPop", key: "k" })))
  })
}
