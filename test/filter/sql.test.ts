/** SQL and memory agree on every filter: random filters over random records, answered by PGlite and by the evaluator. */
import assert from "node:assert/strict"
import { after, before, describe, test } from "node:test"
import fc from "fast-check"
import {
  type FieldTable,
  type FieldValue,
  matchesFilter,
  parseFilter,
} from "../../src/domain/kernel/filter/index.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { filterSql } from "../../src/stores/postgres/filter-sql.ts"
import type { EmbeddedEngine } from "../../src/stores/postgres/index.ts"
import { embeddedDatabase } from "../engines/pglite.ts"

const FIELDS: FieldTable = {
  s: { type: "string" },
  n: { type: "int" },
  d: { type: "double" },
  b: { type: "bool" },
  t: { type: "timestamp" },
  e: { type: "enum", values: ["ONE", "TWO"] },
  j: { type: "json" },
}

const COLUMNS = {
  s: { sql: "v.s" },
  n: { sql: "v.n" },
  d: { sql: "v.d" },
  b: { sql: "v.b" },
  t: { sql: "v.t" },
  e: { sql: "v.e", encode: (name: string) => (name === "ONE" ? 1 : 2) },
  j: { sql: "v.j" },
} as const

const TIMES = [0, 1, 1_700_000_000_000, 1_700_000_000_001]

// Few values, so that equality, order and containment are hit often.
const word = fc.constantFrom(
  "",
  "a",
  "b",
  "ab",
  "A",
  "0",
  "3",
  "true",
  "null",
  "ä",
  "\uff5e",
  "\u{1f600}",
  "a'b\"c\\",
  "%_",
)
const number = fc.constantFrom(0, -0, 1, 3, -3, 0.1, 1e21, 1.5e-7, 123456789012345680)
const key = fc.constantFrom("a", "b", "0", "x y", "length")
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null, freq: 4 })
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    word,
    number,
    fc.boolean(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 3 }),
    tie("object"),
  ),
  object: fc.dictionary(key, tie("value"), { maxKeys: 3 }),
}))

const record = fc.record({
  s: maybe(word),
  n: maybe(fc.constantFrom(0n, 1n, -3n, 9007199254740993n)),
  d: maybe(fc.constantFrom(0, 1, -1.5, 0.1, 1e300)),
  b: maybe(fc.boolean()),
  t: maybe(fc.constantFrom(...TIMES)),
  e: maybe(fc.constantFrom("ONE", "TWO")),
  j: maybe(json.object),
})

const quote = (text: string): string => JSON.stringify(text)
const op = fc.constantFrom("=", "!=", "<", "<=", ">", ">=")
const equality = fc.constantFrom("=", "!=")
const path = fc.array(key, { maxLength: 3 }).map((keys) => keys.map((each) => `.${quote(each)}`).join(""))
const literal = fc.oneof(
  word.map(quote),
  number.map((each) => String(each)),
  fc.constantFrom("true", "false"),
)
const orderable = fc.oneof(
  word.map(quote),
  number.map((each) => String(each)),
)
const time = fc.constantFrom(...TIMES).map((ms) => quote(new Date(ms).toISOString()))
const join = (...parts: fc.Arbitrary<string>[]) => fc.tuple(...parts).map((each) => each.join(" "))

const leaf = fc.oneof(
  join(fc.constant("s"), fc.oneof(op, fc.constant(":")), word.map(quote)),
  join(fc.constant("n"), fc.oneof(op, fc.constant(":")), fc.constantFrom("0", "1", "-3", "9007199254740993")),
  join(fc.constant("d"), op, fc.constantFrom("0", "1", "-1.5", "0.1", "1e300")),
  join(fc.constant("b"), equality, fc.constantFrom("true", "false")),
  join(fc.constant("t"), op, time),
  join(fc.constant("e"), equality, fc.constantFrom("ONE", "TWO")),
  path.chain((at) => join(fc.constant(`j${at}`), op, orderable)),
  path.chain((at) => join(fc.constant(`j${at}`), equality, literal)),
  path.chain((at) => join(fc.constant(`j${at}`), fc.constant(":"), literal)),
  path.chain((at) => join(fc.constant(`j${at}`), fc.constantFrom("= null", "!= null", ": *"))),
  join(fc.constantFrom("s", "n", "d", "b", "t", "e"), fc.constantFrom("= null", "!= null", ": *")),
)

const filterText = fc.letrec<{ tree: string }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc
      .tuple(tie("tree"), fc.constantFrom(" AND ", " OR ", " "), tie("tree"))
      .map(([a, o, b]) => `(${a})${o}(${b})`),
    tie("tree").map((inner) => `NOT (${inner})`),
    tie("tree").map((inner) => `-(${inner})`),
  ),
})).tree

describe("filters in SQL", () => {
  let engine: EmbeddedEngine
  before(async () => {
    engine = await embeddedDatabase()
  })
  after(() => engine.close())

  test("agree with the evaluator", { timeout: 300_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(record, { minLength: 1, maxLength: 30 }),
        filterText,
        async (records, text) => {
          const filter = parseFilter(text, FIELDS)
          assert.ok(filter !== undefined)
          const expected = records.flatMap((each, i) =>
            matchesFilter(filter, (field) => each[field as keyof typeof each] as FieldValue) ? [i] : [],
          )
          const values: unknown[] = [
            records.map((_, i) => i),
            records.map((each) => each.s),
            records.map((each) => each.n),
            records.map((each) => each.d),
            records.map((each) => each.b),
            records.map((each) => (each.t === null ? null : new Date(each.t))),
            records.map((each) => (each.e === null ? null : each.e === "ONE" ? 1 : 2)),
            records.map((each) => (each.j === null ? null : JSON.stringify(each.j))),
          ]
          const condition = filterSql(filter, COLUMNS, values)
          const { rows } = await engine.database.query<{ i: number }>(systemScope(), {
            text: `with v as (select i, s, n, d, b, t, e, j::jsonb as j from unnest($1::int[], $2::text[], $3::bigint[],
              $4::double precision[], $5::boolean[], $6::timestamptz[], $7::int[], $8::text[]) as u (i, s, n, d, b, t, e, j))
            select i from v where ${condition} order by i`,
            values,
          })
          assert.deepEqual(
            rows.map((row) => row.i),
            expected,
            text,
          )
        },
      ),
      { numRuns: 500 },
    )
  })
})
