import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import { normalQuantity } from "../../src/domain/billing/quantity.ts"

describe("quantities", () => {
  it("have one way to be written", () => {
    const cases = {
      "0": "0",
      "000": "0",
      "0.000": "0",
      "007.50": "7.5",
      "10": "10",
      "100.010": "100.01",
      "0.1": "0.1",
    }
    for (const [given, expected] of Object.entries(cases)) assert.equal(normalQuantity(given), expected)
  })

  it("keep their value, and stay as they are once written so", () => {
    const digits = (maxLength: number) =>
      fc.string({ unit: fc.constantFrom(..."0123456789"), minLength: 1, maxLength })
    fc.assert(
      fc.property(digits(18), fc.option(digits(9)), (whole, fraction) => {
        const given = fraction === null ? whole : `${whole}.${fraction}`
        const normal = normalQuantity(given)
        const scaled = (text: string) => {
          const [left = "", right = ""] = text.split(".")
          return BigInt(left + right.padEnd(9, "0"))
        }
        return (
          scaled(normal) === scaled(given) &&
          normalQuantity(normal) === normal &&
          !/^0\d|\.$|\.\d*0$/.test(normal)
        )
      }),
    )
  })
})
