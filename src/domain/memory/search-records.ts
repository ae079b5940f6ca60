/** Searches a collection: resolves what to look for, asks the engine, and ranks. */
import type { Clock } from "../kernel/clock.ts"
import { DomainError, invalidField, limitExceeded, notFound, type Reason } from "../kernel/errors.ts"
import type { Filter } from "../kernel/filter/index.ts"
import type { CallScope } from "../kernel/scope.ts"
import { requireLive } from "../kernel/wake-ups.ts"
import { AnswerBudget, FEW_RECORDS, hasContent, loadRecords, recordBytes } from "./answer-size.ts"
import { isSameToSearch, type KnownCollections } from "./known-collections.ts"
import { type Collection, ID_ONLY, type MemoryRecord, type RecordParts } from "./model.ts"
import type { Embedders, EngineAnswer, EngineQuery, MemoryStore } from "./ports.ts"
import { diversify, type Fusion, favourRecent, fuse, type Ranked } from "./rank.ts"
import { checkText } from "./text.ts"
import { embed } from "./upsert-records.ts"
import { checkVector } from "./vectors.ts"

/** What a search ranks by; AUTO is dense where there is or can be a vector. */
export type SearchMode = "AUTO" | "DENSE" | "KEYWORD" | "HYBRID"

/** One search, defaults filled in but for those that depend on the collection. */
export interface SearchQuery {
  readonly target:
    | { readonly kind: "vector"; readonly vector: Float32Array }
    | { readonly kind: "text"; readonly text: string }
    | { readonly kind: "record"; readonly id: string }
  /** Words for the keyword list where the target is not a text; may be empty. */
  readonly keywords: string
  readonly k: number
  readonly offset: number
  readonly minScore: number | undefined
  readonly filter: Filter | undefined
  readonly mode: SearchMode
  readonly fusion: Fusion
  readonly recencyHalfLifeMs: number | undefined
  /** Lambda of maximal marginal relevance. */
  readonly diversity: number | undefined
  /** 0: chosen. */
  readonly candidates: number
  /** 0: chosen. */
  readonly efSearch: number
  readonly exact: boolean
  readonly parts: RecordParts
}

/** What {@link searchRecords} works with. */
export interface SearchDeps {
  readonly store: MemoryStore
  /** With it, a collection that was searched before is not looked at before the next search, but with it. */
  readonly known?: KnownCollections | undefined
  readonly embedders: Embedders
  readonly clock: Clock
}

/** Most candidates per list, and with diversity. */
const MAX_CANDIDATES = 2000
const MAX_DIVERSE_CANDIDATES = 500
const MAX_DIVERSE = 200
const MIN_CANDIDATES = 100
/** Most searches that a vector store gets at once. */
const MOST_TOGETHER = 32
const DEFAULT_EF_SEARCH = 100
const MAX_EF_SEARCH = 1000

/** A search as it will be run. `path` is where it stands in the request. */
interface Plan {
  readonly query: SearchQuery
  readonly path: string
  readonly fused: boolean
  /** More than the engine's order: candidates are ranked again here. */
  readonly staged: boolean
  /** Goes to the engine together with others. */
  readonly together: boolean
  /** Each answer of the engine is a wait, so that it had better have all that belongs into ours. */
  readonly atOnce: boolean
  readonly vector: Float32Array | undefined
  readonly words: string | undefined
  /** The record searched by, which is left out. */
  readonly self: string | undefined
}

/**
 * Runs all queries over one collection; answers in order, best first. An engine inside the daemon gets them one after the other, so that
 * other work gets its turn in between and no more is done once the scope has ended; a vector store gets them together, for each answer
 * of it is a wait. INVALID_FIELD with paths below `path(i)`, LIMIT_EXCEEDED, also where
 * the records would weigh more than an answer may, NOT_FOUND for the collection or the record searched by, and what the
 * embedder raises. `onDegraded` hears of answers that a fallback gave because a store is away.
 */
export async function searchRecords(
  deps: SearchDeps,
  scope: CallScope,
  collectionId: string,
  queries: readonly SearchQuery[],
  path: (index: number) => string,
  onDegraded: (index: number, store: string) => void = () => {},
): Promise<readonly (readonly Ranked[])[]> {
  const { known, store } = deps
  const before = known?.find(scope.tenant, collectionId)
  let now: Collection | undefined
  if (before !== undefined) {
    const look: Look = { isDone: false, now: undefined }
    try {
      const pages = await searchIn(deps, scope, before, queries, path, onDegraded, look)
      if (pages !== undefined) return pages
      now = look.now
    } catch (error) {
      if (look.isDone || !dependsOnCollection(error)) throw error
      now = await store.getCollection(scope, collectionId)
      if (isSameToSearch(before, now)) throw error
    }
  }
  const collection = now ?? (await store.getCollection(scope, collectionId))
  known?.see(scope.tenant, collection)
  return (await searchIn(deps, scope, collection, queries, path, onDegraded)) ?? []
}

/** What is wrong with a search may be right for a collection that is another one now. */
function dependsOnCollection(error: unknown): boolean {
  return error instanceof DomainError && QUERY_FAULTS.has(error.reason)
}

const QUERY_FAULTS: ReadonlySet<Reason> = new Set([
  "INVALID_FIELD",
  "LIMIT_EXCEEDED",
  "NOT_FOUND",
  "FAILED_PRECONDITION",
  "UNSUPPORTED_BY_ENGINE",
])

/** Whether it was looked yet if a collection is what it was thought to be. */
interface Look {
  isDone: boolean
  /** The collection as it was when it was looked. */
  now: Collection | undefined
}

/** Undefined where it turns out that the collection has changed. */
async function searchIn(
  deps: SearchDeps,
  scope: CallScope,
  collection: Collection,
  queries: readonly SearchQuery[],
  path: (index: number) => string,
  onDegraded: (index: number, store: string) => void,
  look?: Look,
): Promise<readonly (readonly Ranked[])[] | undefined> {
  const plans = await resolve(deps, scope, collection, queries, path)
  const budget =
    plans.length === 1
      ? new AnswerBudget(`${path(0)}.k`, "ask for a smaller k or for RECORD_VIEW_ID")
      : new AnswerBudget("queries", "ask for RECORD_VIEW_ID, a smaller k or fewer queries")
  const pages: Ranked[][] = []
  const lean: boolean[] = []
  const most = plans.every(({ together }) => together) ? MOST_TOGETHER : 1
  for (let at = 0; at < plans.length; at += most) {
    if (at > 0) requireLive(scope)
    const some = plans.slice(at, at + most)
    const answers = await answersTo(deps, scope, collection, some, look)
    if (answers === undefined) return undefined
    for (const [i, plan] of some.entries()) {
      if (i > 0) requireLive(scope)
      const lists = answers[i] ?? { dense: [], keyword: [] }
      if (lists.degradedBy !== undefined) onDegraded(pages.length, lists.degradedBy)
      const page = await rank(deps, scope, plan, fuse(lists, plan.fused ? plan.query.fusion : undefined))
      for (const hit of page) budget.take(recordBytes(hit.record))
      pages.push(page)
      lean.push(lists.complete !== true)
    }
  }
  const lacking = plans.map((plan, i) => (lean[i] === true ? plan : undefined))
  return fill(deps.store, scope, collection, lacking, pages, budget)
}

async function answersTo(
  { store, known }: SearchDeps,
  scope: CallScope,
  collection: Collection,
  plans: readonly Plan[],
  look: Look | undefined,
): Promise<readonly EngineAnswer[] | undefined> {
  const queries = plans.map(engineQuery)
  if (look === undefined || look.isDone) return store.search(scope, collection, queries)
  const { collection: now, answers } = await store.searchKnown(scope, collection, queries)
  look.isDone = answers !== undefined
  look.now = now
  known?.see(scope.tenant, now)
  return answers
}

async function resolve(
  deps: SearchDeps,
  scope: CallScope,
  collection: Collection,
  queries: readonly SearchQuery[],
  path: (index: number) => string,
): Promise<readonly Plan[]> {
  queries.forEach((query, i) => {
    checkLimits(query, path(i))
  })
  const modes = queries.map((query, i) => modeOf(query, collection, path(i)))
  const records = await recordsOf(deps, scope, collection, queries)
  const wanted = queries.flatMap((query, i) =>
    query.target.kind === "text" && modes[i] !== "KEYWORD" ? [query.target.text] : [],
  )
  const made = (wanted.length === 0 ? [] : await embed(deps.embedders, scope, collection, wanted)).values()
  return queries.map((query, i) => {
    const mode = modes[i] ?? "DENSE"
    const { target } = query
    const record = target.kind === "record" ? records.get(target.id) : undefined
    const vector =
      mode === "KEYWORD"
        ? undefined
        : target.kind === "vector"
          ? target.vector
          : target.kind === "text"
            ? made.next().value
            : record?.vector
    if (vector !== undefined) checkVector(vector, collection, `${path(i)}.vector`, "")
    return {
      query,
      path: path(i),
      fused: mode === "HYBRID",
      staged: mode === "HYBRID" || query.recencyHalfLifeMs !== undefined || query.diversity !== undefined,
      atOnce: collection.storageMode === "DIRECT",
      together:
        collection.storageMode !== "LOCAL" &&
        queries.length > 1 &&
        queries.every(({ diversity }) => diversity === undefined),
      vector,
      words: mode === "DENSE" ? undefined : wordsOf(query, record, path(i)),
      self: target.kind === "record" ? target.id : undefined,
    }
  })
}

function checkLimits(query: SearchQuery, path: string): void {
  if (query.target.kind === "text") checkText(query.target.text, `${path}.text`)
  if (query.target.kind === "record") checkText(query.target.id, `${path}.record_id`)
  checkText(query.keywords, `${path}.keywords`)
  if (query.fusion.kind === "weighted" && query.fusion.dense + query.fusion.keyword === 0) {
    throw invalidField(`${path}.weighted`, "not both weights may be 0")
  }
  if (query.diversity === undefined) return
  const wanted = query.k + query.offset
  if (wanted > MAX_DIVERSE) throw limitExceeded(`${path}.k`, wanted, MAX_DIVERSE)
  if (query.candidates > MAX_DIVERSE_CANDIDATES) {
    throw limitExceeded(`${path}.candidates`, query.candidates, MAX_DIVERSE_CANDIDATES)
  }
}

function modeOf(query: SearchQuery, collection: Collection, path: string): Exclude<SearchMode, "AUTO"> {
  const canEmbed = collection.embedder !== ""
  if (query.mode === "AUTO") return query.target.kind === "text" && !canEmbed ? "KEYWORD" : "DENSE"
  if (query.mode !== "KEYWORD" && query.target.kind === "text" && !canEmbed) {
    throw invalidField(`${path}.text`, "the collection has no embedder: send a vector, or search by keyword")
  }
  return query.mode
}

async function recordsOf(
  deps: SearchDeps,
  scope: CallScope,
  collection: Collection,
  queries: readonly SearchQuery[],
): Promise<ReadonlyMap<string, MemoryRecord>> {
  const ids = new Set(queries.flatMap(({ target }) => (target.kind === "record" ? [target.id] : [])))
  if (ids.size === 0) return new Map()
  const text = queries.some(
    ({ target, mode, keywords }) =>
      target.kind === "record" && keywords === "" && (mode === "KEYWORD" || mode === "HYBRID"),
  )
  const records = await deps.store.get(scope, collection, [...ids], { ...ID_ONLY, vector: true, text })
  const found = new Map(records.map((record) => [record.id, record]))
  for (const id of ids) if (!found.has(id)) throw notFound("record", id)
  return found
}

function wordsOf(query: SearchQuery, record: MemoryRecord | undefined, path: string): string {
  const own = query.target.kind === "text" ? query.target.text : ""
  const words = query.keywords !== "" ? query.keywords : own !== "" ? own : (record?.text ?? "")
  if (words === "") throw invalidField(`${path}.keywords`, "a keyword search needs words")
  return words
}

function engineQuery(plan: Plan): EngineQuery {
  const { query } = plan
  const wanted = query.k + query.offset
  const most = query.diversity === undefined ? MAX_CANDIDATES : MAX_DIVERSE_CANDIDATES
  const pool = Math.min(
    most,
    query.candidates === 0 ? Math.max(MIN_CANDIDATES, 4 * wanted) : query.candidates,
  )
  // One more, for the record searched by is among the answers and is left out.
  const limit = (plan.staged ? Math.max(pool, wanted) : wanted) + (plan.self === undefined ? 0 : 1)
  const efSearch = query.efSearch === 0 ? Math.max(DEFAULT_EF_SEARCH, wanted) : query.efSearch
  const parts = rankedParts(plan)
  return {
    filter: query.filter,
    parts,
    partsIfLight:
      plan.atOnce && !plan.staged && parts !== query.parts && hasContent(query.parts)
        ? query.parts
        : undefined,
    dense:
      plan.vector === undefined
        ? undefined
        : {
            vector: plan.vector,
            limit,
            exact: query.exact,
            efSearch: Math.min(MAX_EF_SEARCH, efSearch),
          },
    keyword: plan.words === undefined ? undefined : { text: plan.words, limit },
  }
}

/** What to read of the candidates: all that the answer holds only where there are few of them, and each is in it. */
function rankedParts({ query, staged, together }: Plan): RecordParts {
  if (staged) return { ...ID_ONLY, vector: query.diversity !== undefined }
  if (together) return ID_ONLY
  return query.k + query.offset <= FEW_RECORDS ? query.parts : ID_ONLY
}

/** The query's page, best first, with as much of the records as was read for ranking and belongs into the answer. */
async function rank(
  deps: SearchDeps,
  scope: CallScope,
  plan: Plan,
  fused: readonly Ranked[],
): Promise<Ranked[]> {
  const { query } = plan
  let ranked = fused.filter((entry) => entry.record.id !== plan.self)
  if (query.recencyHalfLifeMs !== undefined) {
    ranked = favourRecent(ranked, query.recencyHalfLifeMs, deps.clock.now())
  }
  const { minScore } = query
  if (minScore !== undefined) ranked = ranked.filter((entry) => entry.score >= minScore)
  const end = query.offset + query.k
  if (query.diversity !== undefined) ranked = await diversify(ranked, query.diversity, end, scope.signal)
  const page = ranked.slice(query.offset, end)
  // The vectors that diversity needed are let go; those that belong into the answer come with the rest of the record.
  if (query.diversity === undefined) return page
  return page.map((entry) => ({ ...entry, record: { ...entry.record, vector: undefined } }))
}

/** Reads what the pages of plans lack, each record once per view; those deleted meanwhile drop out. */
async function fill(
  store: MemoryStore,
  scope: CallScope,
  collection: Collection,
  plans: readonly (Plan | undefined)[],
  pages: readonly (readonly Ranked[])[],
  budget: AnswerBudget,
): Promise<readonly (readonly Ranked[])[]> {
  const results = [...pages]
  for (const { parts, indexes } of byView(plans)) {
    const times = new Map<string, number>()
    for (const i of indexes) {
      for (const { record } of pages[i] ?? []) times.set(record.id, (times.get(record.id) ?? 0) + 1)
    }
    if (times.size === 0) continue
    const records = await loadRecords(store, scope, collection, times, parts, budget)
    for (const i of indexes) {
      results[i] = (pages[i] ?? []).flatMap((entry) => {
        const record = records.get(entry.record.id)
        return record === undefined ? [] : [{ ...entry, record }]
      })
    }
  }
  return results
}

/** The queries whose records have yet to be read, by the view they ask for. */
function byView(
  plans: readonly (Plan | undefined)[],
): Iterable<{ readonly parts: RecordParts; readonly indexes: number[] }> {
  const views = new Map<string, { readonly parts: RecordParts; readonly indexes: number[] }>()
  plans.forEach((plan, i) => {
    if (plan === undefined) return
    const { parts } = plan.query
    if (!hasContent(parts) || (!plan.staged && rankedParts(plan) === parts)) return
    const key = `${parts.text} ${parts.metadata} ${parts.vector}`
    const view = views.get(key) ?? { parts, indexes: [] }
    view.indexes.push(i)
    views.set(key, view)
  })
  return views.values()
}
