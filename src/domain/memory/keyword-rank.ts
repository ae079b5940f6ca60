/** Keyword search for engines without one: the formula of the SQL adapter, over texts that were read one by one. */
import { compareUtf8 } from "../kernel/filter/index.ts"

/** Different words of a query that find records. */
const MAX_QUERY_TERMS = 64
/** Of these, the rarest that rank them. */
const MAX_RANKED_TERMS = 16
/** What one occurrence weighs, and the limit of the sum of 1/n². */
const OCCURRENCE = 0.1
const SERIES = 1.64493406685

const WORD = /[\p{L}\p{M}\p{N}]+/gu

/** The words of a text as they are compared. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(WORD) ?? []
}

interface Match {
  readonly id: string
  /** By term, how often and how densely the text has it. */
  readonly weights: ReadonlyMap<string, number>
}

/** Collects texts and ranks those that have a word of the query. */
export class KeywordRanking {
  readonly #terms: readonly string[]
  readonly #matches: Match[] = []
  #records = 0

  constructor(query: string) {
    this.#terms = [...new Set(wordsOf(query))].slice(0, MAX_QUERY_TERMS)
  }

  /** Takes a record into account. `matches`: it satisfies the filter and so may be found. */
  add(id: string, text: string, matches: boolean): void {
    this.#records++
    if (!matches || this.#terms.length === 0) return
    const words = wordsOf(text)
    const counts = new Map<string, number>()
    for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1)
    const density = Math.log2(words.length + 1)
    const weights = new Map<string, number>()
    for (const term of this.#terms) {
      const count = counts.get(term)
      if (count !== undefined) weights.set(term, (OCCURRENCE * squares(count)) / SERIES / density)
    }
    if (weights.size > 0) this.#matches.push({ id, weights })
  }

  /** The words that are looked for. */
  get terms(): readonly string[] {
    return this.#terms
  }

  /** Takes records into account that have none of the words. */
  addOthers(count: number): void {
    this.#records += count
  }

  /** The best `limit`, best first, ties by id. */
  best(limit: number): readonly { readonly id: string; readonly score: number }[] {
    const spread = new Map<string, number>()
    for (const { weights } of this.#matches) {
      for (const term of weights.keys()) spread.set(term, (spread.get(term) ?? 0) + 1)
    }
    const ranked = [...spread]
      .sort(([a, x], [b, y]) => x - y || this.#terms.indexOf(a) - this.#terms.indexOf(b))
      .slice(0, this.#terms.length > MAX_RANKED_TERMS ? MAX_RANKED_TERMS : undefined)
    const rarity = new Map(
      ranked.map(([term, n]) => [term, Math.log(1 + Math.max(0, this.#records - n + 0.5) / (n + 0.5))]),
    )
    return this.#matches
      .map(({ id, weights }) => {
        let score = 0
        for (const [term, weight] of weights) score += weight * (rarity.get(term) ?? 0)
        return { id, score }
      })
      .sort((a, b) => b.score - a.score || compareUtf8(a.id, b.id))
      .slice(0, limit)
  }
}

function squares(count: number): number {
  let sum = 0
  for (let n = 1; n <= count; n++) sum += 1 / (n * n)
  return sum
}
