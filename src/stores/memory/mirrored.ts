/**
 * Searches over collections whose records are in SQL and whose vectors are copied to the vector store. The vector store proposes; the
 * record itself decides: whether it is there, whether it satisfies the filter, and how close it is. What the vector store may not have
 * yet is looked at beside its proposals, and where it is away, SQL answers alone.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import { compareUtf8 } from "../../domain/kernel/filter/index.ts"
import { type CallScope, scopeWith } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { MirrorSource } from "../../domain/memory/mirror.ts"
import { type Collection, ID_ONLY, type MemoryRecord } from "../../domain/memory/model.ts"
import type { Candidate, EngineAnswer, EngineQuery, MemoryStore } from "../../domain/memory/ports.ts"
import { partsForFilter, recordMatches, unionParts, withParts } from "../../domain/memory/record-fields.ts"
import type { VectorStore } from "../../domain/memory/vector-store.ts"
import { similarity } from "../../domain/memory/vectors.ts"

/** What mirrored searches are made of. */
export interface MirroredOptions {
  readonly records: MemoryStore
  readonly vectors: VectorStore
  readonly source: MirrorSource
}

/** The name of the store in `degraded` answers. */
const VECTORS = "vectors"
/** More owed copies than that, and SQL searches by itself: reading them all for each search would cost more. */
const MOST_OWED = 1_000
const IDS_AT_ONCE = 500
/** Failures of the vector store that SQL can stand in for. */
const AWAY = new Set([
  "DEADLINE_EXCEEDED",
  "STORE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "STORE_AUTH",
  "STORE_FULL",
  "OVERLOADED",
])

/** The vector store gets a part of a call's time, so that enough is left for SQL when it hangs. */
const PATIENCE_SHARE = 0.5
const PATIENCE_MS = 5_000

function impatient(scope: CallScope): CallScope {
  const now = Date.now()
  return scopeWith(scope, {
    deadlineMs: now + Math.min(PATIENCE_MS, (scope.deadlineMs - now) * PATIENCE_SHARE),
  })
}

/** See the file's comment. */
export class MirroredSearch {
  readonly #records: MemoryStore
  readonly #vectors: VectorStore
  readonly #source: MirrorSource

  constructor({ records, vectors, source }: MirroredOptions) {
    this.#records = records
    this.#vectors = vectors
    this.#source = source
  }

  /** See {@link MemoryStore.search}. */
  async search(
    scope: CallScope,
    collection: Collection,
    queries: readonly EngineQuery[],
  ): Promise<readonly EngineAnswer[]> {
    const proposed = queries.filter(isForVectors)
    // Before the vector store is asked: what is no longer owed then is in it.
    const owed = proposed.length === 0 ? undefined : await this.#source.owed(scope, collection.ref, MOST_OWED)
    if (owed === undefined) return this.#records.search(scope, collection, queries)
    let proposals: readonly EngineAnswer[]
    try {
      proposals = await this.#vectors.search(
        impatient(scope),
        collection,
        proposed.map((query) => toProposal(query, owed.length)),
      )
    } catch (error) {
      if (!(error instanceof DomainError && AWAY.has(error.reason))) throw error
      requireLive(scope)
      const answers = await this.#records.search(scope, collection, queries)
      return answers.map((answer, i) => {
        const query = queries[i]
        return query !== undefined && isForVectors(query) ? { ...answer, degradedBy: VECTORS } : answer
      })
    }
    const byQuery = new Map(proposed.map((query, i) => [query, proposals[i]?.dense ?? []]))
    const answers: EngineAnswer[] = []
    for (const query of queries) {
      answers.push(await this.#answer(scope, collection, query, byQuery.get(query), owed))
    }
    return answers
  }

  async #answer(
    scope: CallScope,
    collection: Collection,
    query: EngineQuery,
    proposals: readonly Candidate[] | undefined,
    owed: readonly string[],
  ): Promise<EngineAnswer> {
    const dense =
      proposals === undefined || query.dense === undefined
        ? undefined
        : await this.#decide(scope, collection, { ...query, dense: query.dense }, proposals, owed)
    if (dense !== undefined && query.keyword === undefined) return { dense, keyword: [] }
    // SQL has the words, and the vectors of what could not be proposed.
    const rest = dense === undefined ? query : { ...query, dense: undefined }
    const [answer] = await this.#records.search(scope, collection, [rest])
    return { dense: dense ?? answer?.dense ?? [], keyword: answer?.keyword ?? [] }
  }

  /** Undefined where records that were proposed are gone, so that fewer are left than there may be. */
  async #decide(
    scope: CallScope,
    collection: Collection,
    query: EngineQuery & { readonly dense: NonNullable<EngineQuery["dense"]> },
    proposals: readonly Candidate[],
    owed: readonly string[],
  ): Promise<readonly Candidate[] | undefined> {
    const { vector, limit } = query.dense
    const ids = [...new Set([...proposals.map(({ record }) => record.id), ...owed])]
    const needed = query.filter === undefined ? ID_ONLY : partsForFilter(query.filter)
    const parts = unionParts({ ...ID_ONLY, vector: true }, needed)
    const found: Candidate[] = []
    for (let at = 0; at < ids.length; at += IDS_AT_ONCE) {
      for (const record of await this.#records.get(
        scope,
        collection,
        ids.slice(at, at + IDS_AT_ONCE),
        parts,
      )) {
        if (!recordMatches(query.filter, record)) continue
        const score = similarity(collection.metric, vector, record.vector ?? new Float32Array(vector.length))
        found.push({ record: withParts(record, ID_ONLY), score })
      }
    }
    const best = found.sort(byScore).slice(0, limit)
    const asked = proposedLimit(limit, owed.length)
    if (best.length < limit && proposals.length >= asked) return undefined
    return this.#fill(scope, collection, query, best)
  }

  async #fill(
    scope: CallScope,
    collection: Collection,
    { parts }: EngineQuery,
    best: readonly Candidate[],
  ): Promise<readonly Candidate[]> {
    if (!parts.text && !parts.metadata && !parts.vector) return best
    const found = new Map<string, MemoryRecord>()
    for (let at = 0; at < best.length; at += IDS_AT_ONCE) {
      const ids = best.slice(at, at + IDS_AT_ONCE).map(({ record }) => record.id)
      for (const record of await this.#records.get(scope, collection, ids, parts))
        found.set(record.id, record)
    }
    return best.flatMap(({ record, score }) => {
      const full = found.get(record.id)
      return full === undefined ? [] : [{ record: full, score }]
    })
  }
}

/** Whether the vector store can propose: it has neither texts nor, for what must be exact, an advantage. */
function isForVectors({ dense, filter }: EngineQuery): boolean {
  return dense !== undefined && !dense.exact && (filter === undefined || !partsForFilter(filter).text)
}

function proposedLimit(limit: number, owed: number): number {
  return limit + owed
}

/** Ids only, and as many more as may turn out to have changed since. */
function toProposal(query: EngineQuery, owed: number): EngineQuery {
  const { dense, filter } = query
  return {
    filter,
    parts: ID_ONLY,
    dense: dense === undefined ? undefined : { ...dense, limit: proposedLimit(dense.limit, owed) },
    keyword: undefined,
  }
}

function byScore(a: Candidate, b: Candidate): number {
  return b.score - a.score || compareUtf8(a.record.id, b.record.id)
}
