/** Times of the API as milliseconds. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { create } from "@bufbuild/protobuf"
import { TimestampSchema } from "@bufbuild/protobuf/wkt"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { timeOf } from "../../src/services/times.ts"

const at = (iso: string, nanos = 0): number =>
  timeOf("t", create(TimestampSchema, { seconds: BigInt(Date.parse(iso) / 1_000), nanos }))

describe("times", () => {
  it("takes every nanosecond of the years 1 to 9999, down to its millisecond", () => {
    assert.equal(at("9999-12-31T23:59:59Z", 999_999_999), Date.parse("9999-12-31T23:59:59.999Z"))
    assert.equal(at("0001-01-01T00:00:00Z"), Date.parse("0001-01-01T00:00:00.000Z"))
    assert.equal(at("1969-12-31T23:59:59Z", 999_999_999), -1)
    assert.equal(at("1970-01-01T00:00:00Z", 999_999), 0)
  })

  it("refuses all others", () => {
    const refused = (seconds: bigint, nanos = 0) =>
      assert.throws(
        () => timeOf("t", create(TimestampSchema, { seconds, nanos })),
        (error) => error instanceof DomainError && error.reason === "INVALID_FIELD",
      )
    refused(253_402_300_800n)
    refused(-62_135_596_801n, 999_999_999)
    refused(0n, -1)
    refused(0n, 1_000_000_000)
    refused(2n ** 63n - 1n)
  })
})
