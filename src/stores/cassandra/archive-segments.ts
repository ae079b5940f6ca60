/** Making a segmented log out of rows that are there already: the heads of its segments, each leading to the next. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { type LogHead, type LogRow, type LogTable, ROOT, type SegmentRows } from "./segment-rows.ts"
import { nextStamp } from "./stamp.ts"

/** A segment that is to be; `next` follows from the order. */
export interface NewSegment extends Omit<LogHead, "next" | "version" | "recent" | "indexed"> {
  /** Its rows went with their retention. */
  readonly retired?: boolean
}

/** Rows in one batch. */
const BATCH_ROWS = 50

/** Puts rows into a segment that is not open yet. */
export async function insertRows(
  cql: Cluster,
  scope: CallScope,
  { name }: LogTable,
  segment: string,
  rows: readonly LogRow[],
): Promise<void> {
  for (let at = 0; at < rows.length; at += BATCH_ROWS) {
    const statements = rows.slice(at, at + BATCH_ROWS).map(({ seq, body }) => ({
      cql: `insert into ${name} (tenant, segment, seq, request, body) values (?, ?, ?, '', ?)`,
      values: [scope.tenant, segment, seq, body],
    }))
    await cql.batch(scope, statements)
  }
}

/** Opens segments, oldest first, all sealed but the last, with every row findable. What an attempt before has opened stays. */
export async function openSegments(
  rows: SegmentRows,
  scope: CallScope,
  segments: readonly NewSegment[],
): Promise<void> {
  const [first] = segments
  if (first === undefined) return
  const open = (head: LogHead) => rows.write(scope, ROOT, { ...head, ...nextStamp(undefined) }, [], [])
  await open({ ...ROOT, next: first.segment })
  for (const [at, { retired, ...head }] of segments.entries()) {
    await rows.register(scope, head.segment, head.openedMs)
    if (retired === true) await rows.retire(scope, head.segment, "done")
    await open({ ...ROOT, ...head, indexed: head.last, next: segments[at + 1]?.segment ?? null })
  }
}
