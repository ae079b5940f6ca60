/** Loads records chunk by chunk. */
import { DomainError } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { RecordDraft } from "./model.ts"
import { type UpsertDeps, upsertRecords } from "./upsert-records.ts"

/** Records that are written together. `drafts` may throw INVALID_FIELD for what cannot be read. */
export interface ImportChunk {
  readonly size: number
  /** The records' ids in order, empty where none is given. */
  readonly ids: readonly string[]
  drafts(): readonly RecordDraft[]
}

/** One chunk that was not written. */
export interface ImportFailure {
  /** From 0. */
  readonly chunk: number
  readonly field: string
  readonly recordId: string
  readonly reason: string
  readonly message: string
}

/** What an import did. */
export interface ImportSummary {
  readonly written: number
  readonly created: number
  readonly refused: number
  readonly chunks: number
  /** The first {@link MAX_IMPORT_FAILURES}. */
  readonly failures: readonly ImportFailure[]
}

/** Most failures that a summary names. */
export const MAX_IMPORT_FAILURES = 100

// These are the fault of one chunk's content; anything else would befall the next chunk too and ends the import.
const OF_THE_CHUNK: ReadonlySet<string> = new Set(["INVALID_FIELD", "LIMIT_EXCEEDED", "REVISION_MISMATCH"])

/** Writes each chunk all or nothing, in order. A chunk refused for its content is reported and the import goes on. */
export async function importRecords(
  deps: UpsertDeps,
  scope: CallScope,
  collectionId: string,
  chunks: AsyncIterable<ImportChunk>,
): Promise<ImportSummary> {
  let written = 0
  let created = 0
  let refused = 0
  let count = 0
  const failures: ImportFailure[] = []
  for await (const chunk of chunks) {
    try {
      const receipts = await upsertRecords(deps, scope, collectionId, chunk.drafts())
      written += receipts.length
      created += receipts.reduce((sum, receipt) => sum + (receipt.created ? 1 : 0), 0)
    } catch (error) {
      if (!(error instanceof DomainError) || !OF_THE_CHUNK.has(error.reason)) throw error
      refused += chunk.size
      if (failures.length < MAX_IMPORT_FAILURES) failures.push(failureOf(error, count, chunk))
    }
    count++
  }
  return { written, created, refused, chunks: count, failures }
}

function failureOf(error: DomainError, chunk: number, { ids }: ImportChunk): ImportFailure {
  const field = error.violations[0]?.field ?? ""
  const index = /^records\[(\d+)\]/.exec(field)?.[1]
  const named = index === undefined ? error.metadata.name : ids[Number(index)]
  return { chunk, field, recordId: named ?? "", reason: error.reason, message: error.message }
}
