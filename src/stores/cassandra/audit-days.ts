/** The days of the audit log: their heads, and what is really there. */
import type { AuditChainHead, AuditDayHead } from "../../domain/event/audit-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { chainMeta, dayOfSegment } from "./audit-rows.ts"
import type { Cluster } from "./database.ts"
import type { ListedSegment, SegmentRows } from "./segment-rows.ts"

const LIST_ROWS = 500
/** After all segments of a day. */
const DAY_END = "/\u{ffff}"

/** Reads the days of a log. */
export class AuditDays {
  readonly #cql: Cluster
  readonly #rows: SegmentRows

  constructor(cql: Cluster, rows: SegmentRows) {
    this.#cql = cql
    this.#rows = rows
  }

  /** Segments of a range of days, both inclusive, oldest first. */
  async *segments(
    scope: CallScope,
    startDay: string | undefined,
    endDay: string | undefined,
  ): AsyncGenerator<ListedSegment> {
    const to = endDay === undefined ? undefined : `${endDay}${DAY_END}`
    for (let from = startDay ?? ""; ; ) {
      const page = await this.#rows.segments(scope, { newestFirst: false, limit: LIST_ROWS, from, to })
      yield* page
      const last = page.at(-1)
      if (last === undefined || page.length < LIST_ROWS) return
      from = `${last.segment}\0`
    }
  }

  /** See AuditStore.days. */
  async heads(
    scope: CallScope,
    startDay: string | undefined,
    endDay: string | undefined,
    limit: number,
  ): Promise<readonly AuditDayHead[]> {
    const heads: AuditDayHead[] = []
    let parts: ListedSegment[] = []
    for await (const segment of this.segments(scope, startDay, endDay)) {
      const [first] = parts
      if (first !== undefined && dayOfSegment(first.segment) !== dayOfSegment(segment.segment)) {
        push(heads, await this.#head(scope, parts))
        parts = []
        if (heads.length === limit) return heads
      }
      parts.push(segment)
    }
    push(heads, await this.#head(scope, parts))
    return heads
  }

  /** See AuditStore.dayBefore. */
  async before(scope: CallScope, day: string): Promise<AuditDayHead | undefined> {
    // Segments of the day itself come after its bare name. The newest on the list may not be open yet.
    const found = await this.#rows.segments(scope, { newestFirst: true, limit: 3, to: day })
    for (const { segment } of found) {
      const own = dayOfSegment(segment)
      const [head] = await this.heads(scope, own, own, 1)
      if (head !== undefined) return head
    }
    return undefined
  }

  /** See AuditStore.chainHead. */
  async newest(scope: CallScope): Promise<AuditChainHead | undefined> {
    const [row] = await this.#cql.read<{ day: string; records: bigint; head: Buffer }>(scope, {
      cql: "select day, records, head from audit_chains where tenant = ?",
      values: [scope.tenant],
    })
    return row
  }

  /** What the parts of one day come to. */
  async #head(scope: CallScope, parts: readonly ListedSegment[]): Promise<AuditDayHead | undefined> {
    let newest: Omit<AuditDayHead, "lastSequence"> | undefined
    let lastSequence = 0n
    for (const { segment, retired } of parts.toReversed()) {
      const found = await this.#rows.headAndLast(scope, segment)
      if (found === undefined) continue
      const { prevHash, head } = chainMeta(found.head)
      newest ??= { day: dayOfSegment(segment), records: found.head.last, prevHash, head, retired }
      lastSequence = found.lastSeq
      // The records of a day are on from part to part.
      if (lastSequence > 0n) break
    }
    return newest && { ...newest, lastSequence }
  }
}

function push(heads: AuditDayHead[], head: AuditDayHead | undefined): void {
  if (head !== undefined) heads.push(head)
}
