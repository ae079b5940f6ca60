/** The compiled rules against protovalidate: what they accept is valid, and what is valid they accept. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { create, type DescMessage, type Message } from "@bufbuild/protobuf"
import { createValidator } from "@bufbuild/protovalidate"
import fc from "fast-check"
import { portablePattern } from "../../src/rpc/codec/pattern.ts"
import { compileRules, hasRules } from "../../src/rpc/codec/rules.ts"
import { messages } from "../support/random-message.ts"
import { requestTypes } from "./support/api-types.ts"

const numRuns = Number(process.env.KEELPLANE_FUZZ_RUNS ?? 60)
const validator = createValidator()

/** Rules in CEL: always left to protovalidate. */
const PARTLY: readonly string[] = [
  "keelplane.v1.CreateCollectionRequest",
  "keelplane.v1.UpdateCollectionRequest",
  "keelplane.v1.OptimizeCollectionRequest",
]

/** Times and durations out of their range, which the compiled rules leave to protovalidate without a look at the limits. */
function hasOddTimes(value: unknown): boolean {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return false
  const { seconds, nanos } = value as { seconds?: unknown; nanos?: unknown }
  if (typeof seconds === "bigint" && typeof nanos === "number") return nanos !== 0
  return Object.values(value).some(hasOddTimes)
}

function message(desc: DescMessage): fc.Arbitrary<Message> {
  return messages(desc) as fc.Arbitrary<Message>
}

describe("the compiled rules", () => {
  for (const desc of requestTypes.filter((each) => hasRules(each))) {
    it(`judge ${desc.typeName} as protovalidate does`, () => {
      const accepts = compileRules(desc)
      assert.ok(accepts !== undefined)
      const judge = (value: Message) => {
        const { kind } = validator.validate(desc, value)
        const accepted = accepts(value)
        if (accepted) assert.equal(kind, "valid")
        else if (!PARTLY.includes(desc.typeName) && !hasOddTimes(value)) assert.equal(kind, "invalid")
      }
      judge(create(desc))
      fc.assert(fc.property(message(desc), judge), { numRuns })
    })
  }
})

describe("a pattern", () => {
  it("goes to the runtime's engine where it means the same to RE2 and costs no more", () => {
    for (const pattern of [
      "^[^\\x00]*$",
      "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$",
      "^(a|b\\.c):[ -~]+$",
      "^\\*\\+$",
    ]) {
      assert.deepEqual(portablePattern(pattern), new RegExp(pattern, "u"), pattern)
    }
  })

  it("stays with RE2 otherwise", () => {
    const foreign = ["a", "^a", "^.$", "^\\d$", "^\\s$", "^\\pN$", "^(?i)a$", "^\\bx$", "^[[:alpha:]]$"]
    const costly = ["^(a+)+$", "^(a|a)*$", "^(a{1,9}){1,9}$", "^a*a*$", "^a{2,}b+$"]
    for (const pattern of [...foreign, ...costly]) assert.equal(portablePattern(pattern), undefined, pattern)
  })
})
