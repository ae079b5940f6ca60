/**
 * Collections whose records live in the vector store alone. The registry keeps the collection, gives out revisions and keeps the answers
 * of repeatable requests; writes of one collection go one group after the other in this daemon.
 */
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Filter } from "../../domain/kernel/filter/index.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { DirectLedger } from "../../domain/memory/direct-ledger.ts"
import {
  type Collection,
  ID_ONLY,
  type MemoryRecord,
  type RecordReceipt,
  type RecordWrite,
} from "../../domain/memory/model.ts"
import type { VectorRecord, VectorStore } from "../../domain/memory/vector-store.ts"
import { GroupCommit, type Outcome } from "../group-commit.ts"

/** What direct collections are made of. */
export interface DirectOptions {
  readonly vectors: VectorStore
  readonly ledger: DirectLedger
  readonly clock: Clock
}

const GROUP_RECORDS = 256
const GROUP_BYTES = 8 * 1024 * 1024
/** Groups of different collections at once. */
const CONCURRENCY = 4
/** Steps under which answers are kept; the last of a method's is the registry's own name for it. */
const UPSERT = "memory.upsert"
const UPSERT_BEGIN = "memory.direct.upsert"
const DELETE = "memory.delete"
const DELETE_BEGIN = "memory.direct.delete"
const IDS_AT_ONCE = 1_000

interface UpsertItem {
  readonly collection: Collection
  readonly records: readonly NumberedWrite[]
  /** An earlier attempt may have written them already, and somebody else something newer. */
  readonly repeated: boolean
}

/** A record with the revision that it will have. */
interface NumberedWrite {
  readonly record: RecordWrite
  readonly revision: bigint
}

/** Writes and deletes; reads go to the vector store as they are. */
export class DirectRecords {
  readonly #vectors: VectorStore
  readonly #ledger: DirectLedger
  readonly #clock: Clock
  readonly #group: GroupCommit<UpsertItem, readonly RecordReceipt[]>

  constructor({ vectors, ledger, clock }: DirectOptions) {
    this.#vectors = vectors
    this.#ledger = ledger
    this.#clock = clock
    this.#group = new GroupCommit({
      key: (scope, { collection }) => `${scope.tenant} ${collection.ref}`,
      maxItems: GROUP_RECORDS,
      maxBytes: GROUP_BYTES,
      bytes: ({ records }) =>
        records.reduce((sum, { record }) => sum + record.text.length + record.vector.byteLength + 256, 0),
      concurrency: CONCURRENCY,
      run: (scope, items) => this.#write(scope, items),
    })
  }

  /** See {@link MemoryStore.upsert}. UNSUPPORTED_BY_ENGINE for a record under an expectation. */
  async upsert(
    scope: CallScope,
    collection: Collection,
    records: readonly RecordWrite[],
  ): Promise<readonly RecordReceipt[]> {
    const kept = scope.idempotency && (await this.#ledger.recall<readonly RecordReceipt[]>(scope, UPSERT))
    if (kept !== undefined) return kept.value
    const fresh = await this.#ledger.revisions(scope, collection, records.length)
    if (records.some(({ ifRevisionMatch }) => ifRevisionMatch !== undefined)) throw noExpectations()
    const plan = records.map(({ id }, i) => ({ id, revision: fresh[i] ?? 0n }))
    // Generated ids differ from attempt to attempt: the first attempt's stay.
    const begun = scope.idempotency === undefined ? plan : await this.#ledger.keep(scope, UPSERT_BEGIN, plan)
    const numbered = records.map((record, i) => {
      const { id = record.id, revision = 0n } = begun[i] ?? {}
      return { record: { ...record, id }, revision }
    })
    const repeated = begun[0]?.revision !== plan[0]?.revision
    const receipts = await this.#group.add(scope, { collection, records: numbered, repeated })
    return scope.idempotency === undefined ? receipts : this.#ledger.keep(scope, UPSERT, receipts)
  }

  /** See {@link MemoryStore.delete}. */
  async delete(
    scope: CallScope,
    collection: Collection,
    selection: { readonly ids: readonly string[] } | { readonly filter: Filter },
  ): Promise<number> {
    const kept = scope.idempotency && (await this.#ledger.recall<number>(scope, DELETE))
    if (kept !== undefined) return kept.value
    const ids =
      "ids" in selection
        ? await this.#existing(scope, collection, selection.ids)
        : await this.#matching(scope, collection, selection.filter)
    const count =
      scope.idempotency === undefined ? ids.length : await this.#ledger.keep(scope, DELETE_BEGIN, ids.length)
    if (ids.length > 0) await this.#vectors.remove(scope, collection, ids)
    return scope.idempotency === undefined ? count : this.#ledger.keep(scope, DELETE, count)
  }

  /** Refuses writes and waits for those under way. */
  close(): Promise<void> {
    return this.#group.close()
  }

  async #existing(
    scope: CallScope,
    collection: Collection,
    ids: readonly string[],
  ): Promise<readonly string[]> {
    const found = await this.#vectors.get(scope, collection, [...new Set(ids)], ID_ONLY)
    return found.map(({ id }) => id)
  }

  async #matching(scope: CallScope, collection: Collection, filter: Filter): Promise<readonly string[]> {
    const ids: string[] = []
    let cursor: readonly string[] | undefined
    do {
      const page = await this.#vectors.list(scope, collection, {
        filter,
        order: { by: "id", descending: false },
        parts: ID_ONLY,
        page: { size: IDS_AT_ONCE, cursor },
      })
      ids.push(...page.items.map(({ id }) => id))
      cursor = page.next
    } while (cursor !== undefined)
    return ids
  }

  /** Several calls' records in one request; where a record comes twice the last one is written, and each gets its receipt. */
  async #write(
    scope: CallScope,
    items: readonly UpsertItem[],
  ): Promise<readonly Outcome<readonly RecordReceipt[]>[]> {
    const [first] = items
    if (first === undefined) return []
    const { collection } = first
    const now = this.#clock.now()
    const ids = new Set(items.flatMap(({ records }) => records.map(({ record }) => record.id)))
    const known = new Map<string, Pick<MemoryRecord, "createTimeMs" | "revision">>()
    for (const record of await this.#vectors.get(scope, collection, [...ids], ID_ONLY))
      known.set(record.id, record)
    const writes = new Map<string, VectorRecord>()
    const outcomes = items.map(({ records, repeated }) => {
      const value = records.map(({ record, revision }): RecordReceipt => {
        const { id, text, vector, metadata, expireTimeMs } = record
        const before = known.get(id)
        const receipt = {
          id,
          revision,
          created: before === undefined || (repeated && before.revision === revision),
        }
        if (repeated && before !== undefined && before.revision >= revision) return receipt
        const createTimeMs = before?.createTimeMs ?? now
        writes.set(id, {
          id,
          text,
          vector,
          metadata,
          expireTimeMs,
          revision,
          createTimeMs,
          updateTimeMs: now,
        })
        known.set(id, { createTimeMs, revision })
        return receipt
      })
      return { ok: true, value } as const
    })
    if (writes.size > 0) await this.#vectors.write(scope, collection, [...writes.values()])
    return outcomes
  }
}

function noExpectations(): DomainError {
  const capability = "if_revision_match in a collection of storage mode DIRECT"
  return new DomainError("UNSUPPORTED_BY_ENGINE", `the vector store does not support ${capability}`, {
    metadata: { engine: "vectors", capability },
  })
}
