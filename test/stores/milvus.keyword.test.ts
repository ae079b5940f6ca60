/** Search by words: a server that looks words up answers what one answers that has all texts read. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Filter } from "../../src/domain/kernel/filter/index.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { KeywordRanking } from "../../src/domain/memory/keyword-rank.ts"
import { type Collection, ID_ONLY } from "../../src/domain/memory/model.ts"
import { recordMatches } from "../../src/domain/memory/record-fields.ts"
import type { VectorRecord } from "../../src/domain/memory/vector-store.ts"
import { filter } from "../contract/memory-support.ts"
import { milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"

const place = { ref: "1", dimension: 2, metric: "COSINE", index: { kind: "FLAT" } } as const
const collection = { ...place, id: "c" } as unknown as Collection
const EXPIRED_MS = 1

const words = (count: number) => Array.from({ length: count }, (_, i) => `w${i}`).join(" ")
/** More different words than a field holds; the last ones are not in it. */
const MANY = words(12_000)
const LONG = "x".repeat(300)
const TEXTS = [
  "Apple pie, apple-tree and an APPLE",
  "foo_bar isn't foo bar",
  "Größe und Straße",
  "東京 タワー",
  "\u{20bb7}野家",
  `${MANY} pear`,
  `${LONG} apple`,
  'say "apple" or \\apple\\',
  "more_words stands alone *",
  "",
  "nothing of interest",
]
const QUERIES = [
  "apple",
  "bar",
  "GRÖSSE größe",
  "東京",
  "\u{20bb7}野家",
  "pear",
  "w11999 w3",
  LONG,
  "apple pie tree",
  "more_words",
  "*",
  '") or text_match(words, "nothing',
  "absent",
]

for (const on of [milvusStandalone, milvusLite]) {
  describe(`words on ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    it("finds and ranks as if all texts were read", async () => {
      const engine = await testMilvus(on)
      const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 280_000 }
      const records = TEXTS.map(
        (text, i): VectorRecord => ({
          id: `r${i}`,
          text,
          vector: Float32Array.of(1, i),
          metadata: { even: i % 2 === 0 },
          revision: BigInt(i + 1),
          createTimeMs: 0,
          updateTimeMs: 0,
          expireTimeMs: undefined,
        }),
      )
      const [first] = records
      assert.ok(first !== undefined)
      await engine.vectors.write(scope, place, [
        ...records,
        { ...first, id: "gone", expireTimeMs: EXPIRED_MS },
      ])
      const other = { ...scope, tenant: freshTenant() }
      await engine.vectors.write(other, place, records)
      const expected = (text: string, condition: Filter | undefined) => {
        const ranking = new KeywordRanking(text)
        for (const record of records)
          ranking.add(record.id, record.text ?? "", recordMatches(condition, record))
        return ranking.best(5)
      }
      for (const condition of [undefined, filter("metadata.even = true")]) {
        for (const text of QUERIES) {
          const keyword = { text, limit: 5 }
          const query = { filter: condition, parts: ID_ONLY, dense: undefined, keyword }
          const [answer] = await engine.vectors.search(scope, collection, [query])
          const found = answer?.keyword.map(({ record, score }) => ({ id: record.id, score }))
          assert.deepEqual(found, expected(text, condition), text.slice(0, 40))
        }
      }
      assert.equal(engine.features()?.textMatch, on === milvusLite)
    })
  })
}
