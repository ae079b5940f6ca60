/** Ranked searches: by vector on the server, exactly or by words in the daemon. */
import { DomainError } from "../../domain/kernel/errors.ts"
import { compareUtf8 } from "../../domain/kernel/filter/index.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { KeywordRanking } from "../../domain/memory/keyword-rank.ts"
import {
  type Collection,
  ID_ONLY,
  type MemoryRecord,
  type Metric,
  type RecordParts,
} from "../../domain/memory/model.ts"
import type { Candidate, EngineAnswer, EngineQuery } from "../../domain/memory/ports.ts"
import { partsForFilter, recordMatches, unionParts, withParts } from "../../domain/memory/record-fields.ts"
import { similarity } from "../../domain/memory/vectors.ts"
import type { Connection } from "./connection.ts"
import type { Expression } from "./expression.ts"
import { decodeSearch, encodeSearch, SEARCH } from "./messages.ts"
import { type Places, type Site, searchParams } from "./places.ts"
import type { Reader } from "./reading.ts"
import {
  fieldsOf,
  hasMoreText,
  hasWords,
  type Row,
  SIZE_FIELDS,
  shortFieldsOf,
  TEXT_FIELD_BYTES,
  toRecord,
  weightOf,
} from "./rows.ts"
import type { Weights } from "./weights.ts"

/** Most rows that the server answers to one search. */
const MAX_LIMIT = 16_384
/** How many rows to ask for beyond the limit where the daemon looks again at what comes back, and how that grows. */
const LEAST_CANDIDATES = 200
const GROWTH = 4
/** So many records are looked at one by one rather than searched for again, and how much harder the index is asked before it comes to that. */
const FEW_ROWS = 4_000
const GREATER_EFFORT = 8
/** Most records whose texts are read for a search by words. */
const MAX_KEYWORD_RECORDS = 50_000
const BY_IDS = 500

type Dense = NonNullable<EngineQuery["dense"]>
type DenseQuery = EngineQuery & { readonly dense: Dense }

interface DenseAnswer {
  readonly candidates: readonly Candidate[]
  /** See {@link EngineAnswer.complete}. */
  readonly complete: boolean
}

/** Answers searches. */
export class Searcher {
  readonly #connection: Connection
  readonly #places: Places
  readonly #reader: Reader
  readonly #weights: Weights
  readonly #now: () => number

  constructor(connection: Connection, places: Places, reader: Reader, weights: Weights, now: () => number) {
    this.#connection = connection
    this.#places = places
    this.#reader = reader
    this.#weights = weights
    this.#now = now
  }

  /** See {@link MemoryStore.search}. Queries that differ in their vector alone go to the server together. */
  async search(
    scope: CallScope,
    collection: Collection,
    queries: readonly EngineQuery[],
  ): Promise<readonly EngineAnswer[]> {
    const dense: (DenseAnswer | undefined)[] = []
    for (const indexes of alike(queries)) {
      const group = indexes.flatMap((i) => queries[i] ?? []) as DenseQuery[]
      const answers = await this.#dense(scope, collection, group)
      indexes.forEach((i, n) => {
        dense[i] = answers[n]
      })
    }
    const answers: EngineAnswer[] = []
    for (const [i, query] of queries.entries()) {
      const { candidates = [], complete = false } = dense[i] ?? {}
      if (query.keyword === undefined) answers.push({ dense: candidates, keyword: [], complete })
      else {
        const keyword = await this.#keyword(scope, collection, query, query.keyword)
        answers.push({ dense: candidates, keyword })
      }
    }
    return answers
  }

  async #dense(
    scope: CallScope,
    collection: Collection,
    queries: readonly DenseQuery[],
  ): Promise<readonly DenseAnswer[]> {
    const [first] = queries
    if (first === undefined) return []
    const site = await this.#places.ready(scope, collection)
    const complete = await this.#isLight(scope, site, collection, queries)
    const parts = complete ? unionParts(first.parts, first.partsIfLight ?? ID_ONLY) : first.parts
    const wanted = queries.map((query) => ({ ...query, parts }))
    const isFlat = collection.index.kind === "FLAT"
    const found =
      first.dense.exact && !isFlat ? undefined : await this.#indexed(scope, site, collection, wanted)
    const answers: DenseAnswer[] = []
    for (const [i, query] of wanted.entries()) {
      const candidates = found?.[i] ?? (await this.#exhaustive(scope, collection, query))
      answers.push({ candidates, complete })
    }
    return answers
  }

  /** Whether what is wanted of records if they are light can be read with them. */
  async #isLight(
    scope: CallScope,
    site: Site,
    { dimension }: Collection,
    queries: readonly DenseQuery[],
  ): Promise<boolean> {
    const [first] = queries
    if (first?.partsIfLight === undefined) return false
    const { dense, filter, partsIfLight } = first
    // Where the daemon looks again at what comes back, more comes than is wanted.
    const { exact } = (await this.#reader.builder(scope, site)).filter(filter)
    if (!exact) return false
    const vector = partsIfLight.vector ? dimension * Float32Array.BYTES_PER_ELEMENT : 0
    return this.#weights.areLight(site.owner, queries.length * dense.limit, vector)
  }

  /** By the server's index; undefined in place of an answer that has fewer records than there are. */
  async #indexed(
    scope: CallScope,
    site: Site,
    collection: Collection,
    queries: readonly DenseQuery[],
  ): Promise<readonly (readonly Candidate[] | undefined)[]> {
    const [query] = queries
    if (query === undefined) return []
    const { limit, efSearch } = query.dense
    const builder = await this.#reader.builder(scope, site)
    const { text, exact } = builder.filter(query.filter)
    const expression = builder.fence(this.#now(), text)
    const parts =
      exact || query.filter === undefined
        ? query.parts
        : unionParts(query.parts, partsForFilter(query.filter))
    let asked = exact ? limit : Math.max(LEAST_CANDIDATES, GROWTH * limit)
    let effort = 1
    for (;;) {
      asked = Math.min(asked, MAX_LIMIT)
      const how = { expression, parts, asked, efSearch: efSearch * effort }
      const lists = await this.#ask(scope, site, collection, queries, how)
      const answers = lists.map((rows) => {
        const candidates = rows.map((row) => toCandidate(row, parts, collection.metric))
        if (exact) return candidates.sort(byScore).slice(0, limit)
        return candidates
          .filter(({ record }) => recordMatches(query.filter, record))
          .sort(byScore)
          .slice(0, limit)
          .map(({ record, score }) => ({ record: withParts(record, query.parts), score }))
      })
      if (answers.every((answer) => answer.length >= limit)) return answers
      if (asked >= MAX_LIMIT || lists.every((rows) => rows.length < asked)) {
        const there = await this.#reader.countRows(scope, site, expression)
        const whole = answers.map((answer, i) =>
          answer.length >= limit || (lists[i]?.length ?? 0) >= there ? answer : undefined,
        )
        // Behind a filter a graph may come to an end before it has found enough.
        if (effort > 1 || there <= FEW_ROWS || asked >= MAX_LIMIT || !whole.includes(undefined)) return whole
        effort = GREATER_EFFORT
      } else asked *= GROWTH
    }
  }

  async #ask(
    scope: CallScope,
    site: Site,
    collection: Collection,
    queries: readonly DenseQuery[],
    how: {
      readonly expression: Expression
      readonly parts: RecordParts
      readonly asked: number
      readonly efSearch: number
    },
  ): Promise<readonly (readonly Row[])[]> {
    let found: readonly (readonly Row[])[]
    let heaviest = 0
    const isShort = this.#weights.heaviest(site.owner) <= TEXT_FIELD_BYTES
    const fields = isShort ? shortFieldsOf(how.parts) : [...fieldsOf(how.parts), ...SIZE_FIELDS]
    try {
      const request = encodeSearch({
        site,
        expression: how.expression,
        fields,
        vectors: queries.map(({ dense }) => dense.vector),
        limit: how.asked,
        params: searchParams(collection.index, how.efSearch, how.asked),
      })
      const { lists } = await this.#connection.read(scope, SEARCH, request, decodeSearch)
      for (const rows of lists) for (const row of rows) heaviest = Math.max(heaviest, weightOf(row))
      found = queries.map((_, i) => lists[i] ?? [])
    } catch (error) {
      this.#reader.noteLoss(site, error)
      throw error
    }
    if (found.some((rows) => rows.length > 0)) this.#weights.seen(site.owner, heaviest)
    const again = isShort && how.parts.text && found.some((rows) => rows.some(hasMoreText))
    return again ? this.#ask(scope, site, collection, queries, how) : found
  }

  /** Looks at every vector that the filter lets through. */
  async #exhaustive(
    scope: CallScope,
    collection: Collection,
    query: DenseQuery,
  ): Promise<readonly Candidate[]> {
    const { vector, limit } = query.dense
    let best: Candidate[] = []
    const scan = { filter: query.filter, parts: { ...ID_ONLY, vector: true }, nowMs: this.#now() }
    for await (const record of this.#reader.scan(scope, collection, scan)) {
      const score = similarity(collection.metric, vector, record.vector ?? new Float32Array(vector.length))
      best.push({ record: withParts(record, ID_ONLY), score })
      if (best.length >= 2 * limit + BY_IDS) best = best.sort(byScore).slice(0, limit)
    }
    return this.#fill(scope, collection, best.sort(byScore).slice(0, limit), query.parts)
  }

  async #keyword(
    scope: CallScope,
    collection: Collection,
    query: EngineQuery,
    keyword: { readonly text: string; readonly limit: number },
  ): Promise<readonly Candidate[]> {
    const ranking = new KeywordRanking(keyword.text)
    if (ranking.terms.length === 0) return []
    const records = new Map<string, MemoryRecord>()
    const parts = unionParts(
      { ...ID_ONLY, text: true },
      query.filter === undefined ? ID_ONLY : partsForFilter(query.filter),
    )
    const nowMs = this.#now()
    const site = await this.#places.ready(scope, collection)
    // How rare a word is depends on all records, not only on those that the filter lets through.
    const all = site.words ? await this.#countAll(scope, site, nowMs) : 0
    for await (const record of this.#reader.scan(scope, collection, {
      filter: undefined,
      parts,
      nowMs,
      condition: site.words
        ? hasWords(ranking.terms, await this.#connection.serverFeatures(scope))
        : undefined,
    })) {
      ranking.add(record.id, record.text ?? "", recordMatches(query.filter, record))
      records.set(record.id, withParts(record, ID_ONLY))
      if (records.size > MAX_KEYWORD_RECORDS) throw tooManyForWords()
    }
    ranking.addOthers(Math.max(0, all - records.size))
    const best = ranking.best(keyword.limit).flatMap(({ id, score }) => {
      const record = records.get(id)
      return record === undefined ? [] : [{ record, score }]
    })
    return this.#fill(scope, collection, best, query.parts)
  }

  async #countAll(scope: CallScope, site: Site, nowMs: number): Promise<number> {
    const builder = await this.#reader.builder(scope, site)
    return this.#reader.countRows(scope, site, builder.fence(nowMs))
  }

  /** Reads what the candidates lack; those deleted meanwhile drop out. */
  async #fill(
    scope: CallScope,
    collection: Collection,
    candidates: readonly Candidate[],
    parts: RecordParts,
  ): Promise<readonly Candidate[]> {
    if (!parts.text && !parts.metadata && !parts.vector) return candidates
    const site = this.#places.site(scope, collection)
    const found = new Map<string, MemoryRecord>()
    for (let at = 0; at < candidates.length; at += BY_IDS) {
      const ids = candidates.slice(at, at + BY_IDS).map(({ record }) => record.id)
      for (const row of await this.#reader.byIds(scope, site, ids, fieldsOf(parts), this.#now())) {
        const record = toRecord(row, parts)
        found.set(record.id, record)
      }
    }
    return candidates.flatMap(({ record, score }) => {
      const full = found.get(record.id)
      return full === undefined ? [] : [{ record: full, score }]
    })
  }
}

/** The indexes of queries that may share a request. */
function alike(queries: readonly EngineQuery[]): Iterable<readonly number[]> {
  if (queries.length === 1) return queries[0]?.dense === undefined ? [] : [[0]]
  const groups = new Map<string, number[]>()
  queries.forEach(({ dense, filter, parts, partsIfLight }, i) => {
    if (dense === undefined) return
    const key = JSON.stringify(
      [filter, parts, partsIfLight, dense.limit, dense.exact, dense.efSearch],
      (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value),
    )
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [i])
    else group.push(i)
  })
  return groups.values()
}

function toCandidate(row: Row, parts: RecordParts, metric: Metric): Candidate {
  const raw = Number(row.score)
  // The server squares Euclidean distances and answers the others as similarities.
  const score =
    metric === "L2"
      ? 1 / (1 + Math.sqrt(Math.max(0, raw)))
      : metric === "COSINE"
        ? Math.min(1, Math.max(-1, raw))
        : raw
  return { record: toRecord(row, parts), score }
}

function byScore(a: Candidate, b: Candidate): number {
  return b.score - a.score || compareUtf8(a.record.id, b.record.id)
}

function tooManyForWords(): DomainError {
  const capability = `keyword search that reads more than ${MAX_KEYWORD_RECORDS} records`
  return new DomainError(
    "UNSUPPORTED_BY_ENGINE",
    `milvus does not support ${capability}; mirror the collection`,
    {
      metadata: { engine: "milvus", capability },
    },
  )
}
