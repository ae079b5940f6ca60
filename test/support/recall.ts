/** How much of what an exact search finds a store finds by its index, on real text: among all records, and among those that a filter leaves. */
import assert from "node:assert/strict"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ID_ONLY } from "../../src/domain/memory/model.ts"
import { type EngineAnswer, type EngineQuery, RECORD_FIELDS } from "../../src/domain/memory/ports.ts"
import { cosine } from "../../src/domain/memory/vectors.ts"
import { createLexicalEmbedder } from "../../src/stores/embedders/index.ts"
import { passages } from "./corpus.ts"

/** Records that a store is to hold: record `i` has the id `i` and the metadata of {@link recallMetadata}. */
export const RECALL_RECORDS = 20_000
/** What is written and embedded at a time. */
export const RECALL_BATCH = 1_000
/** What a search looks at when its caller leaves it to the server. */
const EF_SEARCH = 100
const QUERIES = 100
const K = 10
const LEAST = 0.95
/** Filters, the share of the records that each keeps, and which. */
const CASES = [
  { filter: undefined, share: "all", keeps: () => true },
  { filter: "metadata.tenth = 7", share: "one in ten", keeps: (i: number) => i % 10 === 7 },
  { filter: "metadata.hundredth = 7", share: "one in a hundred", keeps: (i: number) => i % 100 === 7 },
] as const

/** What filters go by. */
export function recallMetadata(i: number): { readonly tenth: number; readonly hundredth: number } {
  return { tenth: i % 10, hundredth: i % 100 }
}

/** The vectors of the records, then those to search by. Made anew each time: that costs two seconds of a processor. */
export async function recallVectors(): Promise<readonly Float32Array[]> {
  const texts = passages(RECALL_RECORDS + QUERIES)
  const embedder = createLexicalEmbedder()
  const vectors: Float32Array[] = []
  for (let at = 0; at < texts.length; at += RECALL_BATCH) {
    vectors.push(...(await embedder.embed(systemScope(), texts.slice(at, at + RECALL_BATCH))))
  }
  return vectors
}

/** Asserts that 95 of 100 nearest neighbours are found, of all and of what each filter leaves. */
export async function assertRecall(
  vectors: readonly Float32Array[],
  search: (queries: readonly EngineQuery[]) => Promise<readonly EngineAnswer[]>,
  say: (message: string) => void,
): Promise<void> {
  const queries = vectors.slice(RECALL_RECORDS)
  const found = CASES.map(() => 0)
  const answers: (readonly EngineAnswer[])[] = []
  for (const { filter, share } of CASES) {
    const parsed = filter === undefined ? undefined : parseFilter(filter, RECORD_FIELDS)
    const begun = performance.now()
    const list = queries.map((vector) => ({
      filter: parsed,
      parts: ID_ONLY,
      dense: { vector, limit: K, exact: false, efSearch: EF_SEARCH },
      keyword: undefined,
    }))
    answers.push(await search(list))
    say(`${QUERIES} searches among ${share}: ${Math.round(performance.now() - begun)} ms`)
  }
  for (const [q, query] of queries.entries()) {
    const scores = vectors.slice(0, RECALL_RECORDS).map((vector) => cosine(vector, query))
    for (const [at, { keeps }] of CASES.entries()) {
      const hits = answers[at]?.[q]?.dense ?? []
      assert.equal(hits.length, K)
      // Equal passages are equally near, so what counts is how near and not which.
      const nearest = kth(scores.filter((_, i) => keeps(i)))
      found[at] = (found[at] ?? 0) + hits.filter(({ score }) => score >= nearest - 1e-5).length
    }
  }
  for (const [at, { share }] of CASES.entries()) {
    const recall = (found[at] ?? 0) / (QUERIES * K)
    say(`recall@${K} among ${share}: ${recall}`)
    assert.ok(recall >= LEAST, `among ${share}: ${recall}`)
  }
}

/** The similarity of the last one that belongs to the answer. */
function kth(scores: readonly number[]): number {
  return Float64Array.from(scores).sort().at(-K) ?? -1
}
