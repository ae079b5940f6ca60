import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { createGroupCommit, type Outcome } from "../../src/stores/group-commit.ts"

const scope = systemScope(DEFAULT_TENANT)

/** A writer whose groups end when the test says so. */
function heldWriter(
  options: {
    maxItems?: number
    maxBytes?: number
    concurrency?: number
    maxQueued?: number
    perKey?: number
    lanes?: boolean
  } = {},
) {
  const groups: {
    items: readonly string[]
    end: (outcomes?: readonly Outcome<string>[]) => void
    fail: (e: Error) => void
  }[] = []
  const group = createGroupCommit<string, string>({
    key: (_, item) => item.split(":")[0] ?? "",
    maxItems: options.maxItems ?? 100,
    maxBytes: options.maxBytes ?? 1000,
    bytes: (item) => item.length,
    concurrency: options.concurrency ?? 1,
    maxQueued: options.maxQueued ?? 100,
    perKey: options.perKey ?? 1,
    // The letter behind the number: `a:1x` is about x.
    ...(options.lanes === true ? { lane: (item: string) => item.replace(/^.*?\d+/, "") } : {}),
    run: (_, items) =>
      new Promise((resolve, reject) => {
        const same = items.map((value): Outcome<string> => ({ ok: true, value: `${value}!` }))
        groups.push({ items, end: (outcomes = same) => resolve(outcomes), fail: reject })
      }),
  })
  return { group, groups }
}

/** Lets everything that is ready run: a group is gathered for at most eight turns of the event loop. */
async function turn(): Promise<void> {
  for (let turns = 0; turns < 10; turns++) await new Promise<void>((resolve) => setImmediate(resolve))
}

function reason(expected: string) {
  return (error: unknown) => error instanceof DomainError && error.reason === expected
}

describe("group commit", () => {
  it("puts the calls of one turn into one group, and what arrives meanwhile into the next", async () => {
    const { group, groups } = heldWriter()
    const first = ["a:1", "a:2"].map((item) => group.add(scope, item))
    await turn()
    const second = ["a:3", "a:4", "a:5"].map((item) => group.add(scope, item))
    await turn()
    assert.deepEqual(
      groups.map(({ items }) => items),
      [["a:1", "a:2"]],
    )
    groups[0]?.end()
    assert.deepEqual(await Promise.all(first), ["a:1!", "a:2!"])
    await turn()
    assert.deepEqual(groups[1]?.items, ["a:3", "a:4", "a:5"])
    groups[1]?.end()
    assert.deepEqual(await Promise.all(second), ["a:3!", "a:4!", "a:5!"])
  })

  it("never mixes keys, runs `concurrency` keys at once and one group per key at a time", async () => {
    const { group, groups } = heldWriter({ concurrency: 2 })
    const all = ["a:1", "b:1", "c:1", "a:2"].map((item) => group.add(scope, item))
    await turn()
    assert.deepEqual(
      groups.map(({ items }) => items),
      [["a:1", "a:2"], ["b:1"]],
    )
    all.push(group.add(scope, "a:3"))
    groups[1]?.end()
    await turn()
    assert.deepEqual(groups[2]?.items, ["c:1"])
    groups[2]?.end()
    await turn()
    assert.equal(groups.length, 3, "a:3 waits for the group of its own key")
    groups[0]?.end()
    await turn()
    groups[3]?.end()
    await Promise.all(all)
  })

  it("keeps to its limits of items and bytes, yet sends an item that is over them alone", async () => {
    const { group, groups } = heldWriter({ maxItems: 2, maxBytes: 10 })
    const items = ["a:1", "a:2", "a:3", "a:456789", "a:4567890123456789", "a:5"]
    const all = items.map((item) => group.add(scope, item))
    for (let i = 0; i < 5; i++) {
      await turn()
      groups[i]?.end()
    }
    await Promise.all(all)
    assert.deepEqual(
      groups.map((g) => g.items),
      [["a:1", "a:2"], ["a:3"], ["a:456789"], ["a:4567890123456789"], ["a:5"]],
    )
  })

  it("answers each item by its own outcome, and all of them when the group fails", async () => {
    const { group, groups } = heldWriter()
    const one = [group.add(scope, "a:1"), group.add(scope, "a:2")]
    await turn()
    groups[0]?.end([
      { ok: true, value: "fine" },
      { ok: false, error: new Error("its own fault") },
    ])
    const [fine, fault] = await Promise.allSettled(one)
    assert.deepEqual(fine, { status: "fulfilled", value: "fine" })
    assert.equal(fault?.status === "rejected" && String(fault.reason), "Error: its own fault")
    const two = [group.add(scope, "a:1"), group.add(scope, "a:2")]
    await turn()
    groups[1]?.fail(new Error("all of them"))
    for (const result of await Promise.allSettled(two)) assert.equal(result.status, "rejected")
    const three = group.add(scope, "a:1")
    await turn()
    groups[2]?.end([])
    await assert.rejects(three, reason("INTERNAL"))
  })

  it("drops waiting items whose callers leave, and no others", async () => {
    const { group, groups } = heldWriter()
    const leaving = new AbortController()
    const left: CallScope = { ...scope, signal: leaving.signal }
    const sent = group.add(left, "a:sent")
    await turn()
    const dropped = group.add(left, "a:dropped")
    const kept = group.add(scope, "a:kept")
    leaving.abort()
    await assert.rejects(dropped, reason("CANCELLED"))
    await assert.rejects(group.add({ ...scope, deadlineMs: 1 }, "a:late"), reason("DEADLINE_EXCEEDED"))
    groups[0]?.end()
    assert.equal(await sent, "a:sent!")
    await turn()
    assert.deepEqual(groups[1]?.items, ["a:kept"])
    groups[1]?.end()
    assert.equal(await kept, "a:kept!")
  })

  it("sheds what does not fit its queue", async () => {
    const { group, groups } = heldWriter({ maxQueued: 2 })
    const sent = group.add(scope, "a:0")
    await turn()
    const waiting = [group.add(scope, "a:1"), group.add(scope, "a:2")]
    await assert.rejects(group.add(scope, "a:3"), reason("OVERLOADED"))
    groups[0]?.end()
    await turn()
    groups[1]?.end()
    await Promise.all([sent, ...waiting])
  })

  it("runs several groups of one key that are about different things, alike in size and each thing in its order", async () => {
    const { group, groups } = heldWriter({ concurrency: 2, perKey: 2, lanes: true, maxBytes: 10_000 })
    const first = Array.from({ length: 70 }, (_, n) =>
      group.add(scope, `a:${n}${n < 2 ? "x" : "y".repeat(n)}`),
    )
    await turn()
    assert.deepEqual(
      groups.map(({ items }) => items.length),
      [35, 35],
    )
    const late = Array.from({ length: 36 }, (_, n) => `a:${n}${n % 15 === 0 ? "x" : "z"}`)
    const waiting = late.map((item) => group.add(scope, item))
    await turn()
    assert.equal(groups.length, 2, "there are no more than two at once")
    groups[1]?.end()
    await turn()
    const free = late.filter((item) => item.endsWith("z"))
    assert.deepEqual(groups[2]?.items, free, "x is what the first group is about")
    groups[2]?.end()
    await turn()
    assert.equal(groups.length, 3)
    groups[0]?.end()
    await turn()
    assert.deepEqual(groups[3]?.items, ["a:0x", "a:15x", "a:30x"])
    groups[3]?.end()
    await Promise.all([...first, ...waiting])
  })

  it("starts no group beside another for few callers, and forgets none who leaves or whose turn it is then", async () => {
    const { group, groups } = heldWriter({ concurrency: 4, perKey: 4, lanes: true })
    const few = ["a:1x", "a:2y", "a:3z"].map((item) => group.add(scope, item))
    await turn()
    const leaving = new AbortController()
    const left = group.add({ ...scope, signal: leaving.signal }, "a:4x")
    const other = group.add(scope, "a:5w")
    await turn()
    assert.equal(groups.length, 1)
    leaving.abort()
    await assert.rejects(left, reason("CANCELLED"))
    groups[0]?.end()
    await turn()
    assert.deepEqual(groups[1]?.items, ["a:5w"])
    const closing = group.close()
    groups[1]?.end()
    await Promise.all([...few, other])
    await closing
  })

  it("drains on close and refuses what comes after", async () => {
    const { group, groups } = heldWriter()
    const last = group.add(scope, "a:1")
    let closed = false
    const closing = group.close().then(() => {
      closed = true
    })
    await assert.rejects(group.add(scope, "a:2"), reason("DRAINING"))
    await turn()
    assert.equal(closed, false)
    groups[0]?.end()
    assert.equal(await last, "a:1!")
    await closing
  })
})
