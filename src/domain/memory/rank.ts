/** Turns an engine's ranked lists into one: fusion, recency and diversity. The same on every engine. */
import { compareUtf8 } from "../kernel/filter/index.ts"
import type { MemoryRecord } from "./model.ts"
import type { EngineAnswer } from "./ports.ts"
import { cosine } from "./vectors.ts"

/** How a hybrid search fuses its lists. */
export type Fusion =
  | { readonly kind: "rrf"; readonly k: number }
  | { readonly kind: "weighted"; readonly dense: number; readonly keyword: number }

/** A record with the score it is ordered by. */
export interface Ranked {
  readonly record: MemoryRecord
  readonly score: number
  readonly denseScore: number | undefined
  readonly keywordScore: number | undefined
}

interface Merged {
  readonly record: MemoryRecord
  dense: { readonly score: number; readonly rank: number } | undefined
  keyword: { readonly score: number; readonly rank: number } | undefined
}

/** One list out of both, best first, ties by id. Without `fusion` only one list has entries, and its scores stay. */
export function fuse(answer: EngineAnswer, fusion: Fusion | undefined): Ranked[] {
  const merged = merge(answer)
  const score =
    fusion === undefined ? plainScore : fusion.kind === "rrf" ? rrf(fusion.k) : weighted(answer, fusion)
  return sortRanked(
    merged.map((entry) => ({
      record: entry.record,
      score: score(entry),
      denseScore: entry.dense?.score,
      keywordScore: entry.keyword?.score,
    })),
  )
}

function merge(answer: EngineAnswer): Merged[] {
  const byId = new Map<string, Merged>()
  answer.dense.forEach(({ record, score }, i) => {
    byId.set(record.id, { record, dense: { score, rank: i + 1 }, keyword: undefined })
  })
  answer.keyword.forEach(({ record, score }, i) => {
    const keyword = { score, rank: i + 1 }
    const known = byId.get(record.id)
    if (known === undefined) byId.set(record.id, { record, dense: undefined, keyword })
    else known.keyword = keyword
  })
  return [...byId.values()]
}

function plainScore(entry: Merged): number {
  return (entry.dense ?? entry.keyword)?.score ?? 0
}

function rrf(k: number): (entry: Merged) => number {
  const part = (leg: Merged["dense"]): number => (leg === undefined ? 0 : 1 / (k + leg.rank))
  return (entry) => part(entry.dense) + part(entry.keyword)
}

function weighted(
  answer: EngineAnswer,
  weights: { readonly dense: number; readonly keyword: number },
): (entry: Merged) => number {
  const dense = scaler(answer.dense.map((candidate) => candidate.score))
  const keyword = scaler(answer.keyword.map((candidate) => candidate.score))
  return (entry) =>
    (entry.dense === undefined ? 0 : weights.dense * dense(entry.dense.score)) +
    (entry.keyword === undefined ? 0 : weights.keyword * keyword(entry.keyword.score))
}

/** Scales so that the best of `scores` (sorted) becomes 1 and the worst 0; all 1 where they are equal. */
function scaler(scores: readonly number[]): (score: number) => number {
  const best = scores[0] ?? 0
  const span = best - (scores.at(-1) ?? 0)
  return span > 0 ? (score) => 1 - (best - score) / span : () => 1
}

function sortRanked(ranked: Ranked[]): Ranked[] {
  return ranked.sort((a, b) => b.score - a.score || compareUtf8(a.record.id, b.record.id))
}

/** Lowers the score of older records: score - |score| * (1 - 0.5 ^ (age / half-life)). */
export function favourRecent(ranked: readonly Ranked[], halfLifeMs: number, nowMs: number): Ranked[] {
  return sortRanked(
    ranked.map((entry) => {
      const age = Math.max(0, nowMs - entry.record.updateTimeMs)
      const decay = 0.5 ** (age / halfLifeMs)
      return { ...entry, score: entry.score - Math.abs(entry.score) * (1 - decay) }
    }),
  )
}

/** Multiplications after which {@link diversify} lets other work in. */
const YIELD_AFTER = 5_000_000

/**
 * Maximal marginal relevance: picks `count` entries one by one, each maximising lambda * relevance - (1 - lambda) * likeness to
 * the nearest pick. Entries must have their vectors. Rejects with the signal's reason when it is aborted.
 */
export async function diversify(
  ranked: readonly Ranked[],
  lambda: number,
  count: number,
  signal: AbortSignal,
): Promise<Ranked[]> {
  const relevance = scaler(ranked.map((entry) => entry.score))
  const pool = ranked.map((entry) => ({ entry, relevance: relevance(entry.score), likeness: -1 }))
  const picked: Ranked[] = []
  let work = 0
  while (picked.length < count && pool.length > 0) {
    const value = (item: (typeof pool)[number]): number =>
      lambda * item.relevance - (picked.length === 0 ? 0 : (1 - lambda) * item.likeness)
    let best = 0
    for (let i = 1; i < pool.length; i++) {
      const [item, leader] = [pool[i], pool[best]]
      if (item !== undefined && leader !== undefined && value(item) > value(leader)) best = i
    }
    const chosen = pool.splice(best, 1)[0]?.entry
    if (chosen === undefined) break
    picked.push(chosen)
    const vector = chosen.record.vector
    if (vector === undefined) continue
    for (const item of pool) {
      const other = item.entry.record.vector
      if (other !== undefined) item.likeness = Math.max(item.likeness, cosine(vector, other))
    }
    work += pool.length * vector.length
    if (work > YIELD_AFTER) {
      work = 0
      await new Promise((resume) => setImmediate(resume))
      signal.throwIfAborted()
    }
  }
  return picked
}
