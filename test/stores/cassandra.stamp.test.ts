/** What becomes of a conditional write whose answer is lost. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { nextStamp, type Stamp, settle, untilApplied } from "../../src/stores/cassandra/stamp.ts"

const unknown = new DomainError("OUTCOME_UNKNOWN", "no answer")

/** The stamps of `count` writes after one. */
function after(stamp: Stamp, count: number): Stamp {
  let last = stamp
  for (let n = 0; n < count; n++) last = nextStamp(last)
  return last
}

function lost(expected: Stamp | undefined, version: string, found: Stamp | undefined) {
  const write = { expected: expected?.version ?? null, version }
  return settle(
    write,
    () => Promise.reject(unknown),
    async () => found,
  )
}

describe("a conditional write without an answer", () => {
  const before = after(nextStamp(undefined), 20)
  const mine = nextStamp(before)

  it("took place where its id is in the head, also beneath later writes", async () => {
    for (const later of [0, 1, 15])
      assert.equal(await lost(before, mine.version, after(mine, later)), "applied")
    const first = nextStamp(undefined)
    assert.equal(await lost(undefined, first.version, after(first, 3)), "applied")
  })

  it("did not, and never will, where the head went on without it", async () => {
    for (const later of [1, 15]) assert.equal(await lost(before, mine.version, after(before, later)), "lost")
    assert.equal(await lost(undefined, mine.version, nextStamp(undefined)), "lost")
  })

  it("stays unknown where too much was written since, the head is gone, or cannot be read", async () => {
    const unsaid = (outcome: Promise<unknown>) => assert.rejects(outcome, { reason: "OUTCOME_UNKNOWN" })
    await unsaid(lost(before, mine.version, after(mine, 16)))
    await unsaid(lost(before, mine.version, after(before, 16)))
    await unsaid(lost(before, mine.version, undefined))
    // Nothing is lost yet that may still be on its way.
    await unsaid(lost(before, mine.version, before))
    await unsaid(lost(undefined, mine.version, undefined))
    await unsaid(lost(undefined, mine.version, after(nextStamp(undefined), 20)))
    const away = () => Promise.reject(new DomainError("STORE_UNAVAILABLE", "away"))
    const write = { expected: before.version, version: mine.version }
    await unsaid(settle(write, () => Promise.reject(unknown), away))
  })

  it("is sent again as it is where the head is as it was, and may have been the one that was faster", async () => {
    const write = { expected: before.version, version: mine.version }
    const answers = [() => Promise.reject(unknown), async () => true]
    const next = () => answers.shift()?.() ?? Promise.reject(new Error("sent too often"))
    assert.equal(await settle(write, next, async () => before), "applied")
    for (const [found, fate] of [
      [mine, "applied"],
      [nextStamp(before), "lost"],
    ] as const) {
      const sent = [() => Promise.reject(unknown), async () => false]
      const seen = [before, found]
      const again = () => sent.shift()?.() ?? Promise.reject(new Error("sent too often"))
      assert.equal(await settle(write, again, async () => seen.shift()), fate)
    }
  })

  it("stays in doubt where it is refused when it is sent again", async () => {
    const write = { expected: before.version, version: mine.version }
    const sent = [unknown, new DomainError("STORE_UNAVAILABLE", "away")]
    const settled = settle(
      write,
      () => Promise.reject(sent.shift()),
      async () => before,
    )
    await assert.rejects(settled, unknown)
  })

  it("is not asked about where the answer says what it came to", async () => {
    const never = () => Promise.reject(new Error("nobody asks"))
    const write = { expected: null, version: mine.version }
    assert.equal(await settle(write, async () => true, never), "applied")
    assert.equal(await settle(write, async () => false, never), "lost")
    const refusal = new DomainError("STORE_UNAVAILABLE", "away")
    await assert.rejects(
      settle(write, () => Promise.reject(refusal), never),
      refusal,
    )
  })
})

describe("an attempt that loses every race", () => {
  it("ends with its call, and says that nothing was applied", async () => {
    const controller = new AbortController()
    let attempts = 0
    const losing = untilApplied(systemScope(undefined, controller.signal), async () => {
      if (++attempts === 3) controller.abort(new DomainError("CANCELLED", "gone"))
      return undefined
    })
    await assert.rejects(losing, { reason: "CANCELLED" })
    assert.equal(attempts, 3)
  })
})
