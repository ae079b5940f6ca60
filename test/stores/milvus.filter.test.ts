/** Filters on Milvus mean what the evaluator means, whatever callers put into them. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import fc from "fast-check"
import type { CompareOp, FieldRef, Filter, FilterValue } from "../../src/domain/kernel/filter/index.ts"
import type { JsonObject, JsonValue } from "../../src/domain/kernel/json.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { type Collection, ID_ONLY } from "../../src/domain/memory/model.ts"
import { recordMatches } from "../../src/domain/memory/record-fields.ts"
import type { VectorRecord, VectorStore } from "../../src/domain/memory/vector-store.ts"
import {
  ExpressionBuilder,
  encodeAnyText,
  encodeScalar,
  encodeText,
} from "../../src/stores/milvus/expression.ts"
import { serverFeatures } from "../../src/stores/milvus/features.ts"
import { hasWords } from "../../src/stores/milvus/rows.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"

const NASTY = [
  "",
  "a",
  "A",
  "quote \" and ' and \\",
  '" or owner != "',
  "\\",
  '\\\\"',
  "line\nfeed\rreturn\ttab",
  "\u0001\u007f",
  "\u202eright to left",
  "größe",
  "\u{1f600}",
  // Chinese characters beyond U+FFFF; of the last four hexadecimal digits of the second there is no character.
  "漢\u{20000}\u{2d800}字",
  "\uffff",
  "%_%",
  "{v0}",
  "null",
  "true",
  "5",
  "x".repeat(3_000),
]
const NUMBERS = [0, -0, 1, -1, 1.5, -1.5, 5, 2 ** 53, 2 ** 53 - 1, -(2 ** 53), 1e21, 1e300, 5e-324, 0.1]
const SCALARS: readonly JsonValue[] = [...NASTY, ...NUMBERS, true, false, null]

const text = fc.oneof(fc.constantFrom(...NASTY), fc.string({ unit: "grapheme", maxLength: 8 }))
const scalar = fc.oneof(fc.constantFrom(...SCALARS), text)
const value: fc.Arbitrary<JsonValue> = fc.oneof(
  { weight: 5, arbitrary: scalar },
  fc.array(scalar, { maxLength: 3 }),
  fc.dictionary(fc.constantFrom("a", "b", "0", "with space", "ключ"), scalar, { maxKeys: 2 }),
)
const metadata: fc.Arbitrary<JsonObject> = fc.dictionary(
  fc.constantFrom("a", "b", "0", 'q"', "with space"),
  value,
  { maxKeys: 4, noNullPrototype: true },
)

const path = fc.array(fc.constantFrom("a", "b", "0", 'q"', "with space", "ключ"), {
  minLength: 1,
  maxLength: 2,
})
const op = fc.constantFrom<CompareOp>("=", "!=", "<", "<=", ">", ">=")
const literal: fc.Arbitrary<FilterValue> = fc.oneof(
  text.map((each): FilterValue => ({ type: "string", value: each })),
  fc.constantFrom(...NUMBERS).map((each): FilterValue => ({ type: "double", value: each })),
  fc.boolean().map((each): FilterValue => ({ type: "bool", value: each })),
)
const meta = path.map((each): FieldRef => ({ field: "metadata", type: "json", path: each }))
const json = (key: string): FieldRef => ({ field: "metadata", type: "json", path: [key] })
const string = (each: string): FilterValue => ({ type: "string", value: each })
const column = (field: string, type: FieldRef["type"]): FieldRef => ({ field, type, path: [] })
const time = fc
  .integer({ min: -2, max: 12 })
  .map((half): FilterValue => ({ type: "timestamp", ms: half / 2, iso: new Date(half / 2).toISOString() }))
const leaf: fc.Arbitrary<Filter> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("compare" as const), ref: meta, op, value: literal }),
  },
  fc.record({ kind: fc.constant("has" as const), ref: meta, value: literal }),
  fc.record({ kind: fc.constant("present" as const), ref: meta }),
  fc.record({
    kind: fc.constant("compare" as const),
    ref: fc.constant(column("id", "string")),
    op,
    value: text.map((each): FilterValue => ({ type: "string", value: each })),
  }),
  fc.record({
    kind: fc.constant("compare" as const),
    ref: fc.constant(column("revision", "int")),
    op,
    value: fc
      .constantFrom(-(2n ** 70n), -1n, 0n, 3n, 2n ** 53n + 1n, 2n ** 63n - 1n, 2n ** 63n)
      .map((each): FilterValue => ({ type: "int", value: each })),
  }),
  fc.record({
    kind: fc.constant("compare" as const),
    ref: fc.constantFrom(column("create_time", "timestamp"), column("expire_time", "timestamp")),
    op,
    value: time,
  }),
  fc.constant<Filter>({ kind: "present", ref: column("expire_time", "timestamp") }),
  fc.record({
    kind: fc.constantFrom("has" as const),
    ref: fc.constant(column("text", "string")),
    value: text.map((each): FilterValue => ({ type: "string", value: each })),
  }),
)
const filters = fc.letrec<{ filter: Filter }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    leaf,
    fc.record({
      kind: fc.constantFrom("and" as const, "or" as const),
      terms: fc.array(tie("filter"), { minLength: 2, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant("not" as const), term: tie("filter") }),
  ),
})).filter

describe("the encoder", () => {
  it("makes one literal of any text, and loses nothing of it", () => {
    const check = (given: string) => {
      const encoded = encodeText(given)
      assert.ok(/^"(?:[^"\\\n\r]|\\["\\nr])*"$/.test(encoded))
      const back = encoded
        .slice(1, -1)
        .replace(/\\(.)/g, (_, char: string) => ({ n: "\n", r: "\r" })[char] ?? char)
      assert.ok(back === given)
    }
    check('"\\\n'.repeat(350_000))
    check("\0")
    fc.assert(fc.property(fc.oneof(text, fc.string({ unit: "binary" })), check))
  })

  it("escapes characters beyond U+FFFF for the servers that need it, and for no other", () => {
    const check = (given: string) => {
      const escaped = encodeAnyText(given, serverFeatures("2.4.15"))
      assert.doesNotMatch(escaped, /[\u{10000}-\u{10ffff}]/u)
      const back = escaped.replace(/\\(?:U(.{8})|.)/g, (found, hex?: string) =>
        hex === undefined ? found : String.fromCodePoint(Number.parseInt(hex, 16)),
      )
      assert.equal(back, encodeText(given))
      assert.equal(back, encodeAnyText(given, serverFeatures("milvus_lite-3.2.2")))
    }
    check("\\U00020000 is no escape, \u{20000} becomes one")
    fc.assert(fc.property(fc.oneof(text, fc.string({ unit: "binary" })), check))
    const condition = hasWords(["漢\u{20000}", "pie"], serverFeatures("2.5.24"))
    assert.equal(condition, 'text_match(words, "漢\\U00020000 pie more_words")')
  })

  it("writes numbers so that they come back as they are and are never whole ones", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (given) => {
        const encoded = encodeScalar(given)
        assert.equal(Number(encoded), given === 0 ? 0 : given)
        assert.match(encoded, /[.e]/)
      }),
    )
  })

  it("keeps its own fence around whatever a filter becomes", () => {
    const features = serverFeatures("2.6.1")
    fc.assert(
      fc.property(filters, (filter) => {
        const builder = new ExpressionBuilder(features, "t/1")
        const { text: made } = builder.fence(5, builder.filter(filter).text)
        assert.ok(made.startsWith('owner == "t/1" and expire_ms > 5'))
        const bare = made.replace(/"(?:[^"\\]|\\.)*"/g, '""')
        let depth = 0
        for (const [at, char] of [...bare].entries()) {
          if (char === "(") depth++
          if (char === ")") depth--
          assert.ok(depth >= 0)
          if (depth === 0) assert.doesNotMatch(bare.slice(at, at + 3), /^ or/)
        }
        assert.equal(depth, 0)
        for (const kept of Object.values(builder.values)) assert.equal(typeof kept, "string")
      }),
    )
  })

  it("puts a caller's texts beside the expression where that has templates, each under a name of its own", () => {
    const of = (version: string, filter: Filter) => {
      const builder = new ExpressionBuilder(serverFeatures(version), "t/1")
      return builder.fence(undefined, builder.filter(filter).text)
    }
    const a = (given: string): Filter => ({ kind: "compare", ref: json("a"), op: "=", value: string(given) })
    const filter: Filter = { kind: "and", terms: [a("{v1}"), a('"'), a("")] }
    const place = 'metadata["a"] =='
    assert.deepEqual(of("2.5.0", filter), {
      text: `owner == "t/1" and ((${place} {v0}) and (${place} {v1}) and (${place} {v2}))`,
      values: { v0: "{v1}", v1: '"', v2: "" },
    })
    assert.deepEqual(of("2.4.15", filter), {
      text: `owner == "t/1" and ((${place} "{v1}") and (${place} "\\"") and (${place} ""))`,
      values: {},
    })
  })

  it("asks whether a path exists only where that lets through what leads to nothing but nulls", () => {
    const ref = json("a")
    const cases: readonly (readonly [Filter, boolean])[] = [
      [{ kind: "present", ref }, false],
      [{ kind: "compare", ref, op: "!=", value: string("x") }, false],
      // An object whose key it is may have null there.
      [{ kind: "has", ref, value: string("x") }, false],
      [{ kind: "has", ref, value: { type: "double", value: 1 } }, true],
    ]
    for (const [filter, sinceThen] of cases) {
      for (const version of ["2.3.5", "2.5.24", "milvus_lite-3.2.2", "2.6.18"]) {
        const made = new ExpressionBuilder(serverFeatures(version), "t/1").filter(filter)
        const asks = version !== "2.6.18" || sinceThen
        assert.deepEqual(made, { text: asks ? 'exists metadata["a"]' : undefined, exact: false })
      }
    }
  })
})

for (const [on, numRuns] of [
  [milvusStandalone, 120],
  [milvusLite, 60],
] as const) {
  describe(`filters on ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    let vectors: VectorStore
    let scope: CallScope
    let records: readonly VectorRecord[]
    const place = { ref: "1", dimension: 2, metric: "L2", index: { kind: "FLAT" } } as const
    const collection = { ...place, id: "c" } as unknown as Collection

    before(async () => {
      const clock = { now: () => -1 }
      vectors = (await testMilvus(on, { clock })).vectors
      scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 280_000 }
      const ids = [...new Set(NASTY.filter((each) => each !== "" && each.length < 100))]
      const many = fc.sample(metadata, { numRuns: 80, seed: 7 })
      records = many.map((each, i) => ({
        id: ids[i] ?? `r${i}`,
        text: NASTY[i % NASTY.length] ?? "",
        vector: Float32Array.of(i, 1),
        metadata: { ...each, nasty: NASTY[i % NASTY.length] ?? "" },
        revision: i === 1 ? 2n ** 53n + 1n : BigInt(i + 1),
        createTimeMs: i % 5,
        updateTimeMs: 0,
        expireTimeMs: i % 3 === 0 ? undefined : i % 7,
      }))
      await vectors.write(scope, place, records)
    })

    it("lists and counts what the evaluator lets through", async () => {
      await fc.assert(
        fc.asyncProperty(filters, async (filter) => {
          const expected = records.filter((record) => recordMatches(filter, record)).map(({ id }) => id)
          const order = { by: "id", descending: false } as const
          const page = await vectors.list(scope, collection, {
            filter,
            order,
            parts: ID_ONLY,
            page: { size: 100 },
          })
          assert.deepEqual(page.items.map(({ id }) => id).sort(), expected.toSorted())
          assert.equal(await vectors.count(scope, collection, filter), expected.length)
        }),
        { numRuns },
      )
    })

    it("finds each text by itself", async () => {
      for (const each of NASTY) {
        const filter: Filter = { kind: "compare", ref: json("nasty"), op: "=", value: string(each) }
        const expected = records.filter((record) => recordMatches(filter, record)).length
        assert.ok(expected > 0)
        assert.equal(await vectors.count(scope, collection, filter), expected)
      }
    })

    it("searches among what the evaluator lets through, several queries at once", async () => {
      await fc.assert(
        fc.asyncProperty(filters, async (filter) => {
          const expected = records.filter((record) => recordMatches(filter, record))
          const queries = [0, 40].map((x) => ({
            filter,
            parts: ID_ONLY,
            dense: { vector: Float32Array.of(x, 1), limit: 5, exact: false, efSearch: 100 },
            keyword: undefined,
          }))
          const answers = await vectors.search(scope, collection, queries)
          for (const [i, x] of [0, 40].entries()) {
            const distances = expected
              .map(({ vector }) => Math.abs((vector[0] ?? 0) - x))
              .sort((a, b) => a - b)
            const scores = distances.slice(0, 5).map((distance) => (1 / (1 + distance)).toFixed(5))
            assert.deepEqual(
              answers[i]?.dense.map(({ score }) => score.toFixed(5)),
              scores,
            )
          }
        }),
        { numRuns: Math.ceil(numRuns / 3) },
      )
    })
  })
}
