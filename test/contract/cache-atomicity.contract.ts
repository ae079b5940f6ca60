/** What every cache engine must do with several operations in one call, and with scripts. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Operation } from "../../src/domain/cache/operations.ts"
import type { CacheStore } from "../../src/domain/cache/ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
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
export function cacheAtomicityContract(make: () => Promise<CacheHarness>): void {
  describe("cache execution", () => {
    const { store, fresh } = prepared(make)
    execution(store, fresh)
    scripts(store, fresh)
  })
}

const ADD = { case: "integer", delta: 1n, initial: 0n, minimum: undefined, maximum: undefined } as const

/** One operation of every writing kind, on keys that {@link furnish} has made. */
const CHANGES: readonly Operation[] = [
  op({ kind: "set", key: "value", ...text("changed") }),
  op({ kind: "set", key: "list", ...text("was a list") }),
  op({ kind: "set", key: "made", ...text("new"), tags: ["t"] }),
  op({ kind: "delete", key: "tagged" }),
  op({ kind: "increment", key: "number", addition: ADD }),
  op({ kind: "expire", key: "value", expiration: { ttlMs: 5 } }),
  op({
    kind: "hashSet",
    key: "hash",
    fields: [
      { name: "b", value: text("changed") },
      { name: "z", value: text("new") },
    ],
  }),
  op({ kind: "hashDelete", key: "hash", names: ["a"] }),
  op({ kind: "hashIncrement", key: "hash", name: "n", addition: ADD }),
  op({ kind: "listPush", key: "queue", end: "head", values: [text("x"), text("y")], maximumLength: 4 }),
  op({ kind: "listPop", key: "queue", end: "head" }),
  op({ kind: "listTrim", key: "queue", start: 1, stop: 1 }),
  op({ kind: "listPop", key: "queue", end: "tail", count: 9 }),
  op({
    kind: "sortedSetAdd",
    key: "set",
    members: [
      { member: "a", score: 9 },
      { member: "q", score: 0 },
    ],
  }),
  op({ kind: "sortedSetRemove", key: "set", members: ["b"] }),
  op({ kind: "sortedSetIncrement", key: "set", member: "c", delta: -9 }),
  op({ kind: "expire", key: "number", expiration: { atMs: 0 } }),
  op({ kind: "increment", key: "number", addition: ADD }),
]

async function furnish(store: CacheStore, scope: CallScope): Promise<void> {
  await put(store, scope, "value", "v")
  await store.write(scope, op({ kind: "set", key: "tagged", ...text("v"), tags: ["t"] }))
  await store.write(scope, op({ kind: "increment", key: "number", addition: ADD }))
  await store.write(scope, op({ kind: "listPush", key: "list", values: [text("1")] }))
  await store.write(scope, op({ kind: "listPush", key: "queue", values: ["1", "2", "3"].map(text) }))
  const fields = ["a", "b", "c"].map((name) => ({ name, value: text(name) }))
  await store.write(scope, op({ kind: "hashSet", key: "hash", fields }))
  const members = ["a", "b", "c"].map((member, score) => ({ member, score }))
  await store.write(scope, op({ kind: "sortedSetAdd", key: "set", members }))
}

/** Everything that can be seen of {@link furnish}'s keys. */
async function picture(store: CacheStore, scope: CallScope): Promise<unknown> {
  const { items } = await store.listKeys(scope, space(), "", { size: 100 })
  const parts: unknown[] = [[...items].sort((left, right) => (left.key < right.key ? -1 : 1))]
  for (const { key, kind } of items) {
    if (kind === "value") parts.push([key, (await store.get(scope, space(), key))?.content])
    if (kind === "hash") parts.push(await store.read(scope, op({ kind: "hashGet", key })))
    if (kind === "list") parts.push(await store.read(scope, op({ kind: "listRange", key })))
    if (kind === "sortedSet") parts.push(await store.read(scope, op({ kind: "sortedSetRange", key })))
  }
  return parts
}

function execution(store: () => CacheStore, fresh: () => CallScope): void {
  it("runs different operations in order, each with its own end", async () => {
    const scope = fresh()
    const outcomes = await store().execute(
      scope,
      [
        op({ kind: "set", key: "k", ...text("1") }),
        op({ kind: "increment", key: "k", addition: ADD }),
        op({ kind: "listPush", key: "k", values: [text("x")] }),
        op({ kind: "set", key: "k", ...text("no"), ifRevision: 1n }),
        op({ kind: "get", key: "k" }),
        op({ kind: "delete", key: "k" }),
        op({ kind: "get", key: "k" }),
      ],
      false,
    )
    assert.deepEqual(
      outcomes.map((outcome) => (outcome.ok ? "ok" : outcome.error.reason)),
      ["ok", "ok", "WRONG_TYPE", "REVISION_MISMATCH", "ok", "ok", "ok"],
    )
    const [, , , , found, deleted, gone] = outcomes
    assert.ok(found?.ok && deleted?.ok && gone?.ok)
    assert.equal(
      typeof found.result === "object" && "content" in found.result && found.result.content.value,
      2n,
    )
    assert.deepEqual([deleted.result, gone.result], [true, undefined])
  })

  it("applies all of an atomic call", async () => {
    const scope = fresh()
    await furnish(store(), scope)
    const outcomes = await store().execute(scope, CHANGES, true)
    assert.equal(outcomes.length, CHANGES.length)
    assert.ok(outcomes.every(({ ok }) => ok))
    assert.equal(await read(store(), scope, "made"), "new")
    assert.equal(await read(store(), scope, "tagged"), undefined)
    assert.equal(await read(store(), scope, "number"), 1n)
  })

  it("undoes everything when one operation of an atomic call fails, wherever it stands", async () => {
    const failing = op({ kind: "listPush", key: "value", values: [text("x")] })
    for (let at = 0; at <= CHANGES.length; at++) {
      const scope = fresh()
      await furnish(store(), scope)
      const before = await picture(store(), scope)
      const operations = [...CHANGES.slice(0, at), failing, ...CHANGES.slice(at)]
      const error = await fails("WRONG_TYPE", () => store().execute(scope, operations, true))
      assert.equal(error.metadata.operation, String(at))
      assert.deepEqual(await picture(store(), scope), before)
      await store().invalidateTags(scope, space(), ["t"])
      assert.equal(await read(store(), scope, "tagged"), undefined)
    }
  })

  it("repeats the answer of a whole execution for its request_id", async () => {
    const scope = fresh()
    const run = () =>
      store().execute(
        repeatable(scope, "id"),
        [op({ kind: "increment", key: "n", addition: ADD }), op({ kind: "get", key: "n" })],
        false,
      )
    const first = await run()
    await put(store(), scope, "n", "7")
    assert.deepEqual(await run(), first)
    assert.equal(await read(store(), scope, "n"), "7")
  })
}

function scripts(store: () => CacheStore, fresh: () => CallScope): void {
  const run = async (scope: CallScope, name: string, keys: string[], args: string[] = []) =>
    await store().runScript(scope, space(), { name, keys, args })

  it("runs the built-in scripts, or says that it cannot", async () => {
    const scope = fresh()
    if (!store().capabilities.scripts) {
      await fails("UNSUPPORTED_BY_ENGINE", () => run(scope, "compare-and-set", ["k"], ["a", "b"]))
      return
    }
    await put(store(), scope, "k", "a")
    assert.equal(await run(scope, "compare-and-set", ["k"], ["a", "b"]), true)
    assert.equal(await run(scope, "compare-and-set", ["k"], ["a", "c"]), false)
    assert.equal(await read(store(), scope, "k"), "b")
    assert.equal(await run(scope, "compare-and-delete", ["k"], ["b"]), true)
    await store().write(scope, op({ kind: "listPush", key: "from", values: [text("1"), text("2")] }))
    assert.equal(await run(scope, "list-move", ["from", "to"]), "2")
    assert.equal(await run(scope, "list-move", ["none", "to"]), null)
    await fails("NOT_FOUND", () => run(scope, "no-such-script", []))
    const nul = "a\0b"
    for (const [keys, args] of [
      [[nul], ["b"]],
      [["k"], [nul]],
    ] as const) {
      const error = await fails("INVALID_FIELD", () => run(scope, "compare-and-delete", [...keys], [...args]))
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        [keys[0] === nul ? "keys[0]" : "args[0]"],
      )
    }
  })

  it("runs a script once per request_id, also when both calls come together", async () => {
    if (!store().capabilities.scripts) return
    const scope = fresh()
    await store().write(scope, op({ kind: "listPush", key: "from", values: [text("1"), text("2")] }))
    const again = repeatable(scope, "id")
    const ends = await Promise.all([
      run(again, "list-move", ["from", "to"]),
      run(again, "list-move", ["from", "to"]),
    ])
    assert.deepEqual(ends, ["2", "2"])
    const error = await run(repeatable(scope, "id", "other"), "list-move", ["from", "to"]).catch(
      (cause: unknown) => cause,
    )
    assert.ok(error instanceof DomainError && error.reason === "REQUEST_ID_REUSED")
  })
}
