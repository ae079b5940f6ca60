import assert from "node:assert/strict"
import { describe, test } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import {
  compareUtf8,
  type FieldTable,
  type FieldValue,
  matchesFilter,
  parseFilter,
} from "../../src/domain/kernel/filter/index.ts"

const FIELDS: FieldTable = {
  name: { type: "string" },
  count: { type: "int" },
  score: { type: "double" },
  open: { type: "bool" },
  create_time: { type: "timestamp" },
  state: { type: "enum", values: ["ACTIVE", "DONE"] },
  metadata: { type: "json" },
}

const RECORD: Readonly<Record<string, FieldValue>> = {
  name: "Größe report.pdf",
  count: 42n,
  score: -1.5,
  open: true,
  create_time: Date.parse("2026-03-01T10:00:00Z"),
  state: "ACTIVE",
  metadata: {
    lang: "ts",
    n: 3,
    nothing: null,
    tags: ["a", "b", 7],
    deep: { er: { x: "y" }, "0": "zero" },
    "odd key": 1,
    flag: false,
  },
}

function matches(text: string): boolean {
  const filter = parseFilter(text, FIELDS)
  assert.ok(filter !== undefined)
  return matchesFilter(filter, (field) => RECORD[field])
}

function fails(text: string): DomainError {
  try {
    parseFilter(text, FIELDS)
  } catch (error) {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, "INVALID_FILTER")
    return error
  }
  assert.fail(`${text} was accepted`)
}

describe("filters that match", () => {
  for (const text of [
    'metadata.lang = "ts"',
    "metadata.lang = ts",
    "metadata.lang='ts'",
    'metadata.lang != "js"',
    "metadata.n != 4 AND metadata.n > 2 AND metadata.n <= 3.0",
    "metadata.n != three",
    "metadata.deep.er.x = y",
    'metadata.deep."0" = zero AND metadata.deep.0 = zero',
    'metadata."odd key" = 1',
    "metadata.nothing = null AND metadata.absent = null AND metadata.lang != null",
    "metadata.lang:* AND NOT metadata.absent:* AND NOT metadata.nothing:*",
    "metadata.tags:a metadata.tags:7",
    "metadata.deep:er AND metadata:lang",
    'metadata.lang:"t"',
    "metadata.flag = false",
    "NOT metadata.absent = 1",
    "-metadata.absent != 1",
    "count = 42 AND count >= -7",
    "score < -1 score > -1.6e0",
    "open = true",
    'create_time > "2026-03-01T09:59:59.999999999Z" AND create_time = "2026-03-01T11:00:00+01:00"',
    "state = ACTIVE AND state != DONE",
    'name:"report.pdf" name > "Gr" name < h',
    // OR binds tighter than AND and than juxtaposition.
    "open = false AND open = false OR open = true open = true OR open = false OR open = false AND open = false OR open = true",
    "(open = false) OR (open = true)",
    '  \n\tname = "Gr\\u00f6\\u00dfe report.pdf"  ',
  ]) {
    test(text.trim(), () => {
      // The precedence example is false as a whole: its first factor is.
      assert.equal(matches(text), !text.startsWith("open = false AND"))
    })
  }
})

describe("filters that do not match", () => {
  for (const text of [
    "metadata.absent != 1",
    "metadata.nothing != 1",
    "metadata.lang > 3",
    'metadata.n = "3"',
    "metadata.tags:c",
    "metadata.tags.0 = a",
    "metadata.lang.x = 1",
    "metadata.constructor:*",
    'name = "größe report.pdf"',
    "metadata.n:*  AND -metadata.n = 3",
  ]) {
    test(text, () => assert.equal(matches(text), false))
  }
})

test("blank text is no filter", () => {
  assert.equal(parseFilter("", FIELDS), undefined)
  assert.equal(parseFilter(" \n ", FIELDS), undefined)
})

describe("faults are found where they are", () => {
  const cases: readonly (readonly [string, number])[] = [
    ["nope = 1", 0],
    ["name =", 6],
    ["name", 4],
    ['name = "ü" AND', 15],
    ['name = "ü" AND nope = 1', 16],
    ["name = 3", 7],
    ["count = 1.5", 8],
    ["count = 99999999999999999999", 8],
    ["score = 1e999", 8],
    ["open = 1", 7],
    ["open < true", 7],
    ["state = GONE", 8],
    ["create_time > yesterday", 14],
    ['create_time > "2026-02-30T00:00:00Z"', 14],
    ['name = "abc', 7],
    ['name = "a\\qb"', 9],
    ['name = "\\u0000"', 7],
    ['name = "\\ud800"', 7],
    ["(name = a", 9],
    ["name = a)", 8],
    ["name.x = a", 0],
    ["metadata. = 1", 10],
    ["metadata.a > null", 13],
    ["metadata.a = *", 13],
    ["NOT", 3],
    ["NOT NOT open = true", 4],
    ["name = a OR", 11],
    ["f(x)", 1],
    ["name = a; drop", 14],
    ["name == a", 6],
    ["\0", 0],
  ]
  for (const [text, position] of cases) {
    test(JSON.stringify(text), () => {
      const error = fails(text)
      assert.equal(error.metadata.position, String(position))
      assert.equal(error.violations[0]?.field, "filter")
    })
  }
})

describe("limits", () => {
  test("4096 bytes", () => {
    assert.ok(parseFilter(`name = "${"x".repeat(4087)}"`, FIELDS))
    fails(`name = "${"x".repeat(4088)}"`)
  })
  test("64 parentheses deep", () => {
    assert.ok(parseFilter(`${"(".repeat(64)}open = true${")".repeat(64)}`, FIELDS))
    fails(`${"(".repeat(65)}open = true${")".repeat(65)}`)
  })
  test("200 comparisons", () => {
    assert.ok(parseFilter(Array(200).fill("count=1").join(" "), FIELDS))
    fails(Array(201).fill("count=1").join(" "))
  })
})

test("strings are ordered by code point", () => {
  assert.ok(compareUtf8("\u{1f600}", "\uff5e") > 0)
  assert.ok(compareUtf8("a", "ab") < 0)
  assert.equal(compareUtf8("x", "x"), 0)
})
