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

/** What chance makes seldom, and what must not be left to protovalidate since it comes often. */
const GOOD: Readonly<Record<string, object>> = {
  CacheServiceGetRequest: { key: "k" },
  CacheServiceSetRequest: {
    key: "k",
    value: { case: "data", value: new Uint8Array(9) },
    expiration: { case: "ttl", value: { seconds: 60n } },
  },
  CacheServiceBatchGetRequest: { keys: ["a", "ü"] },
  AppendEventsRequest: {
    stream: "s",
    expected: { case: "any", value: true },
    events: [
      { eventId: "0190d1f2-7c1c-7000-8000-000000000001", type: "t", data: { case: "json", value: { a: 1 } } },
    ],
  },
  SearchRequest: { collectionId: "c", query: { target: { case: "text", value: "words" }, minScore: 0.5 } },
  BatchSearchRequest: {
    collectionId: "c",
    queries: [{ target: { case: "vector", value: { data: { case: "packed", value: new Uint8Array(8) } } } }],
  },
  UpsertRecordsRequest: {
    collectionId: "c",
    records: [
      { id: "r", vector: { data: { case: "values", value: { values: [1, 2] } } }, metadata: { a: [null] } },
    ],
  },
  RecordUsageRequest: {
    events: [{ eventId: "e", meter: "tokens", quantity: "1.5", dimensions: { model: "large" } }],
  },
  ReserveUsageRequest: { items: [{ meter: "tokens", quantity: "3" }], ttl: { seconds: 60n } },
  SetBudgetRequest: { budget: { budgetId: "b", meter: "tokens", period: 1, limit: "100", enforcement: 1 } },
  GetSagaRequest: { sagaId: "0190d1f2-7c1c-7000-8000-000000000001" },
  RetrySagaRequest: { sagaId: "0190D1F2-7C1C-7000-8000-00000000000F" },
  CheckPermissionRequest: {
    check: { subject: { subject: { case: "userId", value: "u" } }, permission: "docs:read" },
  },
  BatchCheckPermissionsRequest: {
    checks: [
      { subject: { subject: { case: "agentId", value: "a" } }, permission: "docs:read", resource: "/r" },
    ],
  },
}

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

describe("what comes often", () => {
  for (const [name, init] of Object.entries(GOOD)) {
    it(`needs no protovalidate: ${name}`, () => {
      const desc = requestTypes.find((each) => each.name === name)
      assert.ok(desc !== undefined)
      const value = create(desc, init as never)
      const { kind, error } = validator.validate(desc, value)
      assert.equal(kind, "valid", String(error))
      assert.equal(compileRules(desc)?.(value), true)
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
