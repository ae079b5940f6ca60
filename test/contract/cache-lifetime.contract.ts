/** What every cache engine must do as time passes and keys are invalidated. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type CallScope, DEFAULT_TENANT } from "../../src/domain/kernel/scope.ts"
import { type CacheHarness, fails, op, prepared, put, read, scopeOf, space, text } from "./cache-support.ts"

/** Registers the suite. */
export function cacheLifetimeContract(make: () => Promise<CacheHarness>): void {
  describe("cache expiry", () => expiry(make))
  describe("cache invalidation", () => invalidation(make))
}

function expiry(make: () => Promise<CacheHarness>): void {
  const { store, fresh, clock } = prepared(make)
  const set = (scope: CallScope, rest: object, key = "k") =>
    store().write(scope, op({ kind: "set", key, ...text("v"), ...rest }))

  it("hides a key from the moment of its expiry on", async () => {
    const scope = fresh()
    const { expireTimeMs } = await set(scope, { expiration: { ttlMs: 1_000 } })
    assert.equal(expireTimeMs, clock().now() + 1_000)
    clock().advance(999)
    assert.equal(await read(store(), scope, "k"), "v")
    clock().advance(1)
    assert.equal(await read(store(), scope, "k"), undefined)
    assert.equal((await set(scope, { condition: "ifAbsent" })).applied, true)
  })

  it("accepts an elapsed expiry, which leaves nothing to read", async () => {
    const scope = fresh()
    await set(scope, {})
    assert.equal((await set(scope, { expiration: { atMs: clock().now() - 1 } })).applied, true)
    assert.equal(await read(store(), scope, "k"), undefined)
    await fails("REVISION_MISMATCH", () => set(scope, { ifRevision: 1n }))
  })

  it("uses the namespace's default, which a set can override or keep", async () => {
    const scope = fresh()
    const namespace = space("short")
    const start = clock().now()
    assert.equal((await set(scope, { namespace })).expireTimeMs, start + 1_000)
    assert.equal(
      (await set(scope, { namespace, expiration: "never" })).expireTimeMs,
      Number.POSITIVE_INFINITY,
    )
    await set(scope, { namespace, expiration: { ttlMs: 5_000 } })
    clock().advance(100)
    assert.equal((await set(scope, { namespace, keepExpiration: true })).expireTimeMs, start + 5_000)
    assert.equal((await set(scope, { namespace, keepExpiration: true }, "new")).expireTimeMs, start + 1_100)
    assert.equal((await set(scope, { namespace })).expireTimeMs, start + 1_100)
  })

  it("restarts the time to live on reads and writes where the namespace says so", async () => {
    const scope = fresh()
    const namespace = space("sliding")
    await set(scope, { namespace })
    for (let turn = 0; turn < 3; turn++) {
      clock().advance(900)
      assert.equal(await read(store(), scope, "k", namespace), "v")
    }
    await store().write(scope, op({ kind: "listPush", key: "l", values: [text("a")], namespace }))
    clock().advance(900)
    await store().write(scope, op({ kind: "listPush", key: "l", values: [text("b")], namespace }))
    clock().advance(900)
    const list = await store().read(scope, op({ kind: "listRange", key: "l", namespace }))
    assert.equal(list.values.length, 2)
    assert.equal(await read(store(), scope, "k", namespace), undefined)
  })

  it("leaves the expiry of existing collections and numbers alone unless asked", async () => {
    const scope = fresh()
    const start = clock().now()
    const push = (rest: object) =>
      store().write(scope, op({ kind: "listPush", key: "l", values: [text("a")], ...rest }))
    assert.equal((await push({ expiration: { ttlMs: 500 } })).expireTimeMs, start + 500)
    clock().advance(100)
    assert.equal((await push({ expiration: { ttlMs: 900 } })).expireTimeMs, start + 500)
    assert.equal((await push({ refreshTtl: true })).expireTimeMs, start + 600)
    assert.equal((await push({ refreshTtl: true, expiration: { ttlMs: 900 } })).expireTimeMs, start + 1_000)
    const addition = {
      case: "integer",
      delta: 1n,
      initial: 0n,
      minimum: undefined,
      maximum: undefined,
    } as const
    const add = () =>
      store().write(scope, op({ kind: "increment", key: "n", addition, expiration: { ttlMs: 100 } }))
    await add()
    clock().advance(60)
    await add()
    clock().advance(40)
    assert.equal((await add()).sum.value, 1n)
  })

  it("changes and removes the expiry of any kind of key", async () => {
    const scope = fresh()
    await store().write(scope, op({ kind: "hashSet", key: "h", fields: [{ name: "f", value: text("v") }] }))
    const expire = (expiration: { ttlMs: number } | { atMs: number } | "never", key = "h") =>
      store().write(scope, op({ kind: "expire", key, expiration }))
    assert.equal((await expire({ ttlMs: 10 })).expireTimeMs, clock().now() + 10)
    const kept = await expire("never")
    assert.deepEqual([kept.found, kept.expireTimeMs], [true, Number.POSITIVE_INFINITY])
    await expire({ atMs: clock().now() })
    assert.equal((await store().read(scope, op({ kind: "hashGet", key: "h" }))).found, false)
    assert.equal((await expire({ ttlMs: 10 })).found, false)
  })
}

function invalidation(make: () => Promise<CacheHarness>): void {
  const { store, fresh, clock } = prepared(make)
  const tagged = (scope: CallScope, key: string, ...tags: string[]) =>
    store().write(scope, op({ kind: "set", key, ...text(key), tags }))

  it("invalidates by tag whatever carries it, and nothing written later", async () => {
    const scope = fresh()
    const other = fresh()
    await tagged(scope, "a", "red", "round")
    await tagged(scope, "b", "red")
    await tagged(scope, "c", "round")
    await tagged(other, "a", "red")
    assert.deepEqual((await store().get(scope, space(), "a"))?.tags, ["red", "round"])
    await store().invalidateTags(scope, space(), ["red", "unknown"])
    const left = await store().batchGet(scope, space(), ["a", "b", "c"])
    assert.deepEqual(
      left.map((entry) => entry?.content.value),
      [undefined, undefined, "c"],
    )
    assert.equal(await read(store(), other, "a"), "a")
    await tagged(scope, "a", "red")
    assert.equal(await read(store(), scope, "a"), "a")
    await store().invalidateTags(scope, space(), ["round"])
    assert.equal(await read(store(), scope, "a"), "a")
    assert.equal(await read(store(), scope, "c"), undefined)
  })

  it("does not bring an invalidated value back when its tag has been forgotten and made anew", async () => {
    const scope = fresh()
    await tagged(scope, "old", "t")
    await store().invalidateTags(scope, space(), ["t"])
    await tagged(scope, "new", "t")
    await store().write(scope, op({ kind: "delete", key: "new" }))
    await tagged(scope, "newer", "t")
    assert.equal(await read(store(), scope, "old"), undefined)
    assert.equal(await read(store(), scope, "newer"), "newer")
  })

  it("a plain set drops the tags of the value it replaces", async () => {
    const scope = fresh()
    await tagged(scope, "k", "t")
    await put(store(), scope, "k", "untagged")
    await store().invalidateTags(scope, space(), ["t"])
    assert.equal(await read(store(), scope, "k"), "untagged")
  })

  it("deletes by pattern", async () => {
    const scope = fresh()
    for (const key of ["user:1", "user:22", "user:x", "User:1", "group:1", "a*b", "axb"])
      await put(store(), scope, key, key)
    assert.equal(await store().invalidatePattern(scope, space(), "user:[0-9]*"), 2)
    assert.equal(await store().invalidatePattern(scope, space(), "a\\*b"), 1)
    assert.equal(await store().invalidatePattern(scope, space(), "?roup:1"), 1)
    await fails("INVALID_FIELD", () => store().invalidatePattern(scope, space(), "["))
    assert.equal(await store().invalidatePattern(scope, space(), "*"), 3)
    assert.equal(await store().invalidatePattern(scope, space(), "*"), 0)
  })

  it("lists every key that stays exactly once, whatever is written meanwhile", async () => {
    const scope = fresh()
    const kept = Array.from({ length: 57 }, (_, index) => `k-${index}`)
    for (const key of kept) await put(store(), scope, key, key)
    await put(store(), scope, "other", "o")
    await store().write(scope, op({ kind: "set", key: "k-gone", ...text(""), expiration: { ttlMs: 1 } }))
    clock().advance(1)
    const seen: string[] = []
    let cursor: readonly string[] | undefined
    let page = 0
    do {
      const { items, next } = await store().listKeys(scope, space(), "k-", { size: 10, cursor })
      assert.ok(items.length <= 10)
      seen.push(...items.map(({ key }) => key))
      cursor = next
      await put(store(), scope, `k-late-${page}`, "late")
      await put(store(), scope, `k-${page}`, "again")
      page++
    } while (cursor !== undefined)
    const known = seen.filter((key) => !key.startsWith("k-late"))
    assert.deepEqual(known.sort(), kept.sort())
    assert.equal(new Set(seen).size, seen.length)
  })

  it("tells kind, revision and expiry of listed keys", async () => {
    const scope = fresh()
    const { revision } = await put(store(), scope, "a", "v")
    await store().write(
      scope,
      op({ kind: "sortedSetAdd", key: "b", members: [{ member: "m", score: 1 }], expiration: { ttlMs: 5 } }),
    )
    const { items, next } = await store().listKeys(scope, space(), "", { size: 10 })
    assert.equal(next, undefined)
    const [a, b] = [...items].sort((left, right) => (left.key < right.key ? -1 : 1))
    assert.deepEqual([a?.kind, a?.revision, a?.expireTimeMs], ["value", revision, Number.POSITIVE_INFINITY])
    assert.deepEqual([b?.kind, b?.expireTimeMs], ["sortedSet", clock().now() + 5])
  })

  it("clears a namespace and counts what lived", async () => {
    const scope = fresh()
    await put(store(), scope, "a", "v")
    await put(store(), scope, "b", "v")
    await store().write(
      scope,
      op({ kind: "set", key: "c", ...text("v"), expiration: { atMs: clock().now() } }),
    )
    assert.equal(await store().clearNamespace(scope, space()), 2)
    assert.equal(await read(store(), scope, "a"), undefined)
  })

  it("sweeps what has expired or been invalidated, a part at a time, and nothing else", async () => {
    const scope = fresh()
    for (let index = 0; index < 20; index++) {
      await store().write(
        scope,
        op({ kind: "set", key: `x${index}`, ...text("v"), expiration: { ttlMs: 10 } }),
      )
      await tagged(scope, `t${index}`, "t")
      await put(store(), scope, `k${index}`, "v")
    }
    clock().advance(10)
    await store().invalidateTags(scope, space(), ["t"])
    let freed = 0
    for (let run = 0; run < 50 && freed < 40; run++)
      freed += await store().sweep(scopeOf(DEFAULT_TENANT), 100)
    assert.ok(freed >= 40)
    const { items } = await store().listKeys(scope, space(), "", { size: 100 })
    assert.equal(items.length, 20)
  })
}
