/** Ranked searches over the Memory plane's records in SQL. */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { isSameToSearch } from "../../domain/memory/known-collections.ts"
import { type Collection, type IndexSpec, type RecordParts, scoreOf } from "../../domain/memory/model.ts"
import type { Candidate, EngineAnswer, EngineQuery, KnownAnswers } from "../../domain/memory/ports.ts"
import type { Database, Rows, Statement } from "./database.ts"
import { filterSql } from "./filter-sql.ts"
import { getCollection } from "./memory-collections.ts"
import {
  isLive,
  RECORD_FILTER_COLUMNS,
  type RecordRow,
  recordColumns,
  toRecord,
  vectorParameter,
} from "./memory-rows.ts"
import { roughSize } from "./memory-sizes.ts"
import { StatementNames } from "./statement-names.ts"

type Dense = NonNullable<EngineQuery["dense"]>

/** Distance operators of pgvector. */
const OPERATORS = { COSINE: "<=>", L2: "<->", INNER_PRODUCT: "<#>", L1: "<+>" } as const

/** An AUTO index looks at so many candidates for each one asked for: 98 of 100 nearest neighbours instead of 95. */
const AUTO_EF_FACTOR = 2
/** With a filter, which throws most candidates away: 97 of 100 among one record of ten instead of 91. */
const AUTO_FILTERED_EF_FACTOR = 3
/** Most candidates that pgvector can be told to look at. */
const MAX_EF_SEARCH = 1000
/** Most rows that an index hands out before its search ends; what is then missing is found exactly. */
const MAX_SCAN_TUPLES = 40_000

/** See {@link MemoryStore.search}. All queries go to the store together; those that came back short once more. */
export async function searchRecords(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  queries: readonly EngineQuery[],
): Promise<readonly EngineAnswer[]> {
  return (await search(database, clock, scope, collection, queries, false)) ?? []
}

/** See {@link MemoryStore.searchKnown}: the collection is read in the same round trip. */
export async function searchKnown(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  queries: readonly EngineQuery[],
): Promise<KnownAnswers> {
  const answers = await search(database, clock, scope, collection, queries, true)
  if (answers !== undefined) return { collection, answers }
  return { collection: await getCollection(database, scope, collection.id), answers: undefined }
}

/** `looks`: whether to look in the same round trip if the collection is still the one to search; undefined where it is not. */
async function search(
  database: Database,
  clock: Clock,
  scope: CallScope,
  collection: Collection,
  queries: readonly EngineQuery[],
  looks: boolean,
): Promise<readonly EngineAnswer[] | undefined> {
  const indexed = collection.indexState !== "EXACT"
  const ranks = queries.some(({ keyword }) => keyword !== undefined)
  // A large collection's size only sets how much rarity counts, and counting it would cost more than all the rest.
  const size = indexed && ranks ? await roughSize(database, scope, collection) : undefined
  const build = new SearchBuilder(scope, collection, new Date(clock.now()), size)
  const reaches = queries.map(({ dense, filter }) => {
    if (!indexed || dense === undefined || dense.exact) return "ALL"
    return isEnough(dense, filter, collection.index) ? "CANDIDATES" : "ON"
  })
  const answers = await run(
    database,
    scope,
    queries.map((query, i) => build.statements(query, reaches[i] ?? "ALL")),
    looks ? collection : undefined,
  )
  if (answers === undefined) return undefined
  for (;;) {
    const short = queries.flatMap(({ dense }, i) =>
      reaches[i] !== "ALL" && (answers[i]?.dense?.count ?? 0) < (dense?.limit ?? 0) ? [i] : [],
    )
    if (short.length === 0) break
    const plans = short.map((i) => {
      const reach = reaches[i] === "CANDIDATES" ? "ON" : "ALL"
      reaches[i] = reach
      return build.statements({ ...EMPTY, ...queries[i], keyword: undefined }, reach)
    })
    const again = await run(database, scope, plans, undefined)
    short.forEach((i, n) => {
      answers[i] = { dense: again?.[n]?.dense, keyword: answers[i]?.keyword }
    })
  }
  return answers.map(({ dense, keyword }) => ({
    dense: candidates(dense, (row) => scoreOf(collection.metric, Number(row.measure))),
    keyword: candidates(keyword, (row) => Number(row.measure)),
  }))
}

const NAMES = new StatementNames("memory_search")

function named(text: string, values: readonly unknown[]): Statement {
  const name = NAMES.of(text)
  return name === undefined ? { text, values } : { name, text, values }
}

const EMPTY: EngineQuery = {
  filter: undefined,
  parts: { text: false, metadata: false, vector: false },
  dense: undefined,
  keyword: undefined,
}

interface Planned {
  readonly dense: { readonly statement: Statement; readonly settings: Settings | undefined } | undefined
  readonly keyword: Statement | undefined
}

type ScoredRow = RecordRow & { readonly measure: number }

interface RawAnswer {
  readonly dense: Rows<ScoredRow> | undefined
  readonly keyword: Rows<ScoredRow> | undefined
}

/** Runs all in one round trip; undefined where `known` is no longer what it was. */
async function run(
  database: Database,
  scope: CallScope,
  plans: readonly Planned[],
  known: Collection | undefined,
): Promise<RawAnswer[] | undefined> {
  const statements: Statement[] = []
  if (known !== undefined) statements.push(lookStatement(scope, known, plans[0]?.dense?.settings))
  const places = plans.map(({ dense, keyword }, i) => {
    // The first ones are set with the look.
    if (dense?.settings !== undefined && (i > 0 || known === undefined)) {
      statements.push(settingsStatement(dense.settings))
    }
    return {
      dense: dense === undefined ? undefined : statements.push(dense.statement) - 1,
      keyword: keyword === undefined ? undefined : statements.push(keyword) - 1,
    }
  })
  if (statements.length === 0) return plans.map(() => ({ dense: undefined, keyword: undefined }))
  const all = await database.pipeline(scope, statements)
  if (known !== undefined && !isStill(known, all[0] as unknown as Rows<LookRow>)) return undefined
  // Each statement that has a place selects the columns of ScoredRow.
  const results = all as unknown as readonly Rows<ScoredRow>[]
  return places.map(({ dense, keyword }) => ({
    dense: dense === undefined ? undefined : results[dense],
    keyword: keyword === undefined ? undefined : results[keyword],
  }))
}

function candidates(
  rows: Rows<ScoredRow> | undefined,
  score: (row: ScoredRow) => number,
): readonly Candidate[] {
  return rows?.rows.map((row) => ({ record: toRecord(row), score: score(row) })) ?? []
}

class SearchBuilder {
  readonly #scope: CallScope
  readonly #collection: Collection
  readonly #now: Date
  /** How many records the collection has; undefined to count them. */
  readonly #size: number | undefined

  constructor(scope: CallScope, collection: Collection, now: Date, size: number | undefined) {
    this.#scope = scope
    this.#collection = collection
    this.#now = now
    this.#size = size
  }

  statements(query: EngineQuery, reach: Reach): Planned {
    const { dense, keyword } = query
    return {
      dense:
        dense === undefined
          ? undefined
          : reach === "ALL"
            ? { statement: this.#exact(query, dense), settings: undefined }
            : {
                statement: this.#approximate(query, dense),
                settings: settingsOf(query, dense, this.#collection.index, reach),
              },
      keyword: keyword === undefined ? undefined : this.#keyword(query, keyword),
    }
  }

  /** `$1` tenant, `$2` collection key, `$3` now, then the filter's. */
  #where(query: EngineQuery, values: unknown[]): string {
    values.push(this.#scope.tenant, this.#collection.ref, this.#now)
    const filter =
      query.filter === undefined ? "" : ` and ${filterSql(query.filter, RECORD_FILTER_COLUMNS, values)}`
    return `r.tenant = $1 and r.collection_key = $2::bigint and ${isLive(3)}${filter}`
  }

  #distance(dense: Dense, values: unknown[]): string {
    const { quantization, metric, dimension } = this.#collection
    const type = quantization === "HALF" ? "halfvec" : "vector"
    const column = quantization === "HALF" ? "r.embedding_half" : "r.embedding"
    const query = `$${values.push(vectorParameter(dense.vector))}::vector::${type}(${dimension})`
    return `((${column}::${type}(${dimension})) ${OPERATORS[metric]} ${query})`
  }

  #exact(query: EngineQuery, dense: Dense): Statement {
    const values: unknown[] = []
    const where = this.#where(query, values)
    const distance = this.#distance(dense, values)
    return named(
      `select ${recordColumns(query.parts)}, ${distance} as measure from memory_records r
        where ${where} order by measure, r.id limit ${Number(dense.limit)}`,
      values,
    )
  }

  /** The index' best and, exactly, the best of what is not in it yet; then the best of both. */
  #approximate(query: EngineQuery, dense: Dense): Statement {
    const values: unknown[] = []
    const where = this.#where(query, values)
    const distance = this.#distance(dense, values)
    // A number in the text, not a parameter: the planner weighs a plan for all values by what it knows.
    const limit = `limit ${Number(dense.limit)}`
    const key = BigInt(this.#collection.ref)
    // The key stands in the text too, for the planner to see that the partial index applies. ctid instead of columns: text,
    // metadata and vectors are read for the winners only. `+ 0` has the planner sort what the index hands out nearly in order.
    const part = (state: string): string =>
      `(select r.ctid as place, r.id as tie, ${distance} as measure from memory_records r
        where ${where} and r.collection_key = ${key} and ${state} order by ${distance} ${limit})`
    const text = () =>
      `with best as materialized (select * from (${part("r.indexed")} union all ${part("not r.indexed")}) parts
          order by measure + 0, tie ${limit})
        select ${recordColumns(query.parts)}, best.measure from best join memory_records r on r.ctid = best.place
        where r.tenant = $1 order by best.measure, r.id`
    return named(
      query.filter === undefined ? this.#remembered(query.parts, dense.limit, text) : text(),
      values,
    )
  }

  #remembered({ text, metadata, vector }: RecordParts, limit: number, make: () => string): string {
    const texts = unfiltered.get(this.#collection) ?? new Map<string, string>()
    unfiltered.set(this.#collection, texts)
    const key = `${limit} ${text} ${metadata} ${vector}`
    const made = texts.get(key) ?? make()
    if (texts.size < MOST_TEXTS) texts.set(key, made)
    return made
  }

  /**
   * Terms are weighed by rarity (as BM25 does) and by how often and how densely a record has them: ts_rank saturates in the
   * number of occurrences and, with 1, falls with the logarithm of the length.
   */
  #keyword(query: EngineQuery, keyword: { readonly text: string; readonly limit: number }): Statement {
    const values: unknown[] = []
    const where = this.#where(query, values)
    const text = `$${values.push(keyword.text)}::text`
    const limit = `limit ${Number(keyword.limit)}`
    const total =
      this.#size === undefined
        ? `select count(*)::double precision as records from memory_records r
          where r.tenant = $1 and r.collection_key = $2::bigint`
        : `select $${values.push(this.#size)}::double precision as records`
    return named(
      `with terms as materialized (
          select n, lexeme, quoted::tsquery as term, quoted from (
            select lexeme, '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''' as quoted, n::int
            from unnest(to_tsvector('simple', ${text})) with ordinality as u (lexeme, positions, weights, n)
            limit ${MAX_QUERY_TERMS}) lexemes),
        wanted as materialized (select coalesce(string_agg(quoted, ' | '), '')::tsquery as any_term from terms),
        matched as materialized (
          select r.place, r.id as tie, r.words from (
            select c.ctid as place, c.* from memory_records c where c.ctid = any(array(
              select memory_word_places($2::bigint, (select array_agg(lexeme) from terms)))) offset 0) r
          where ${where} and r.indexed and r.words @@ (select any_term from wanted)
          union all
          select r.ctid, r.id, r.words from memory_records r
          where ${where} and not r.indexed and r.words @@ (select any_term from wanted)),
        total as materialized (${total}),
        chosen as materialized (
          select n, term from terms where (select count(*) from terms) <= ${MAX_RANKED_TERMS}
          union all
          (select t.n, t.term from terms t join matched m on m.words @@ t.term
            where (select count(*) from terms) > ${MAX_RANKED_TERMS}
            group by t.n, t.term order by count(*), t.n limit ${MAX_RANKED_TERMS})),
        parts as materialized (select m.place, m.tie, t.n, ts_rank(m.words, t.term, 1) as weight
          from matched m join chosen t on m.words @@ t.term),
        rarity as materialized (
          select n, ln(1 + greatest(0, (select records from total) - count(*) + 0.5) / (count(*) + 0.5)) as idf
          from parts group by n),
        scores as (select p.place, p.tie, p.weight * y.idf as score from parts p join rarity y using (n)
          union all
          select place, tie, 0 from matched where (select count(*) from terms) > ${MAX_RANKED_TERMS}),
        best as materialized (select place, tie, sum(score)::double precision as measure
          from scores group by place, tie order by measure desc, tie ${limit})
        select ${recordColumns(query.parts)}, best.measure from best join memory_records r on r.ctid = best.place
        where r.tenant = $1 order by best.measure desc, r.id`,
      values,
    )
  }
}

/** What approximate searches without a filter say, as long as their collection is known: most are like the one before. */
const unfiltered = new WeakMap<Collection, Map<string, string>>()
const MOST_TEXTS = 16

/** Different words of a query that find records. */
const MAX_QUERY_TERMS = 64
/** Of these, the rarest that rank them: each costs about as much again, and what many records have decides little. */
const MAX_RANKED_TERMS = 16

/** Clusters of an inverted file when its number is not known here. */
const ASSUMED_LISTS = 100

/** How far a search goes: an index' first candidates, on from there until there are enough, or through all records. */
type Reach = "CANDIDATES" | "ON" | "ALL"

/**
 * Whether the first candidates will do, but for many dead rows among them: to be able to go on costs a graph's search a sixth of its time.
 */
function isEnough(dense: Dense, filter: EngineQuery["filter"], index: IndexSpec): boolean {
  return (
    filter === undefined && index.kind !== "IVF_FLAT" && 2 * dense.limit <= candidatesOf(dense, filter, index)
  )
}

function candidatesOf(dense: Dense, filter: EngineQuery["filter"], index: IndexSpec): number {
  const factor = filter === undefined ? AUTO_EF_FACTOR : AUTO_FILTERED_EF_FACTOR
  const asked = index.kind === "AUTO" ? factor * dense.efSearch : dense.efSearch
  return Math.min(MAX_EF_SEARCH, Math.max(asked, dense.limit))
}

/** What an approximate search sets: candidates to look at, whether to go on, rows to hand out, clusters to look into. */
type Settings = readonly [candidates: string, goesOn: string, scanTuples: string, probes: string]

/**
 * An index that runs dry goes on where it stopped. Where it need not keep strictly to the order it does not drop what it meets
 * late: among one record of a hundred that finds 99 of 100 nearest neighbours instead of 94, at the same cost.
 */
function settingsOf({ filter }: EngineQuery, dense: Dense, index: IndexSpec, reach: Reach): Settings {
  // Looking into the square root of all clusters is what pgvector advises; efSearch scales it, 100 being the default.
  const lists = index.kind === "IVF_FLAT" && index.lists > 0 ? index.lists : ASSUMED_LISTS
  const probes = Math.max(1, Math.ceil((Math.sqrt(lists) * dense.efSearch) / 100))
  return [
    String(candidatesOf(dense, filter, index)),
    reach === "ON" ? "relaxed_order" : "off",
    String(MAX_SCAN_TUPLES),
    String(Math.min(lists, probes)),
  ]
}

function settingCalls(first: number): string {
  const [candidates, goesOn, scanTuples, probes] = [first, first + 1, first + 2, first + 3]
  return `set_config('hnsw.ef_search', $${candidates}, true), set_config('hnsw.iterative_scan', $${goesOn}, true),
    set_config('hnsw.max_scan_tuples', $${scanTuples}, true), set_config('ivfflat.iterative_scan', $${goesOn}, true),
    set_config('ivfflat.probes', $${probes}, true)`
}

const SETTINGS = `select ${settingCalls(1)}`

function settingsStatement(values: Settings): Statement {
  return { name: "memory_search_settings", text: SETTINGS, values }
}

/** What {@link isSameToSearch} compares. */
interface LookRow {
  readonly key: bigint
  readonly revision: bigint
  readonly index_state: Collection["indexState"]
}

const LOOK_COLUMNS = "select key, revision, index_state"
const LOOK_FROM = "from memory_collections where tenant = $1 and id = $2"
const LOOK = `${LOOK_COLUMNS} ${LOOK_FROM}`
const LOOK_AND_SET = `${LOOK_COLUMNS}, ${settingCalls(3)} ${LOOK_FROM}`

function lookStatement(scope: CallScope, { id }: Collection, settings: Settings | undefined): Statement {
  if (settings === undefined) return { name: "memory_look", text: LOOK, values: [scope.tenant, id] }
  return { name: "memory_look_and_set", text: LOOK_AND_SET, values: [scope.tenant, id, ...settings] }
}

function isStill(known: Collection, { rows: [row] }: Rows<LookRow>): boolean {
  if (row === undefined) return false
  return isSameToSearch(known, {
    ref: row.key.toString(),
    revision: row.revision,
    indexState: row.index_state,
  })
}
