/** What a request_id stands for: the same bytes for the same request, however it was written down, and in every release. */
import assert from "node:assert/strict"
import { createHash } from "node:crypto"
import { describe, it } from "node:test"
import { create, type DescMessage, fromBinary, type Message, toBinary } from "@bufbuild/protobuf"
import fc from "fast-check"
import { UpsertRecordsRequestSchema as UpsertRecords } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { canonicalBytes } from "../../src/rpc/canonical.ts"
import { messages } from "../support/random-message.ts"
import { requestTypes } from "./support/api-types.ts"

const numRuns = Number(process.env.KEELPLANE_FUZZ_RUNS ?? 60)
type Fields = Readonly<Record<string, unknown>>

/** The same with the keys of everything that has any in another order: those of maps and Structs, and those that order does not matter to. */
function reordered(value: unknown, order: (keys: string[]) => string[]): unknown {
  if (Array.isArray(value)) return value.map((each) => reordered(each, order))
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value
  const other: Record<string, unknown> = {}
  for (const key of order(Object.keys(value))) {
    const inner = reordered((value as Fields)[key], order)
    Object.defineProperty(other, key, { value: inner, enumerable: true, configurable: true, writable: true })
  }
  return other
}

const sorted = (message: Fields) => reordered(message, (keys) => keys.toSorted()) as Fields
const turned = (message: Fields) => reordered(message, (keys) => keys.toReversed()) as Fields

/** What protobuf-es makes of a request, or what it says is wrong with it. */
function slowly(desc: DescMessage, message: Fields): string {
  try {
    const bytes = toBinary(desc, { ...sorted(message), requestId: "" } as unknown as Message)
    return Buffer.from(bytes).toString("hex")
  } catch (error) {
    return String(error)
  }
}

function outcome(canonical: (message: Fields) => Uint8Array, message: Fields): string {
  try {
    return Buffer.from(canonical(message)).toString("hex")
  } catch (error) {
    return String(error)
  }
}

describe("the canonical bytes of a request", () => {
  for (const desc of requestTypes.filter(({ field }) => field.requestId !== undefined)) {
    it(`are those of protobuf-es in the order of keys: ${desc.name}`, () => {
      const canonical = canonicalBytes(desc, "requestId")
      fc.assert(
        fc.property(messages(desc), (random) => {
          const message = random as Fields
          const expected = slowly(desc, message)
          assert.equal(outcome(canonical, message), expected)
          assert.equal(outcome(canonical, { ...message, requestId: "another" }), expected)
          assert.equal(outcome(canonical, turned(message)), expected)
        }),
        { numRuns },
      )
    })
  }

  it("keep what a newer client says besides", () => {
    const known = toBinary(UpsertRecords, create(UpsertRecords, { collectionId: "c", requestId: "r" }))
    const canonical = canonicalBytes(UpsertRecords, "requestId")
    // Field 1000, a number.
    const newer = (value: number) =>
      fromBinary(UpsertRecords, Buffer.concat([known, Buffer.from([0xc0, 0x3e, value])]))
    const bytes = [1, 2].map((value) => outcome(canonical, newer(value) as unknown as Fields))
    assert.notEqual(bytes[0], bytes[1])
  })

  it("are in this release what they were in the last one", () => {
    const message = create(UpsertRecords, {
      collectionId: "notes",
      requestId: "r-1",
      records: [{ id: "ä", text: "t", metadata: { b: [1, null, { z: true, y: "" }], a: -0.5 } }],
    })
    const bytes = canonicalBytes(UpsertRecords, "requestId")(message as unknown as Fields)
    assert.equal(
      createHash("sha256").update(bytes).digest("hex"),
      "c22f104732e634985bbcf4094ce99644fd99b871c7e6b251df10efb82538c7a3",
    )
  })
})
