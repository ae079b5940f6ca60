import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { uuid7 } from "../../src/domain/kernel/uuid7.ts"

const FORM = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const timeOf = (id: string) => Number.parseInt(id.slice(0, 13).replace("-", ""), 16)

describe("version 7 UUIDs", () => {
  it("say when they were made and only rise, also when the clock does not", () => {
    const start = Date.now() + 1_000
    let last = ""
    for (let n = 0; n < 20_000; n++) {
      // A clock that stands still, steps back and goes on.
      const id = uuid7(start + Math.floor(n / 1_000) - (n % 1_000 === 999 ? 50 : 0))
      assert.match(id, FORM)
      assert.ok(id > last, `${id} after ${last}`)
      last = id
    }
    assert.equal(timeOf(last), start + 19)
  })

  it("go on from the latest where the clock is set back for long", () => {
    const latest = uuid7(Date.now() + 60_000)
    let last = latest
    for (let n = 0; n < 1_000; n++) {
      const id = uuid7(n)
      assert.ok(id > last, `${id} after ${last}`)
      last = id
    }
    assert.equal(timeOf(last), timeOf(latest))
  })

  it("are never the same, in what is random either", () => {
    const now = Date.now() + 120_000
    const ids = Array.from({ length: 20_000 }, (_, n) => uuid7(now + Math.floor(n / 2)))
    assert.equal(new Set(ids).size, ids.length)
    assert.ok(new Set(ids.map((id) => id.slice(-8))).size > ids.length - 10)
    const random = ids.map(randomBitsOf)
    // Each bit behind time, version and variant is set in about half of them, but for the counter's first, which is 0 where it begins.
    for (let bit = 0; bit < 74; bit++) {
      const set = random.filter((bits) => (bits >> BigInt(bit)) & 1n).length
      if (bit === 73) assert.equal(set, 0)
      else assert.ok(set > 0.45 * ids.length && set < 0.55 * ids.length, `bit ${bit}: ${set}`)
    }
  })
})

/** The 12 bits after the version and the 62 after the variant. */
function randomBitsOf(id: string): bigint {
  const [, , high = "", rest = "", last = ""] = id.split("-")
  return (BigInt(`0x${high.slice(1)}`) << 62n) | (BigInt(`0x${rest}${last}`) & ((1n << 62n) - 1n))
}
