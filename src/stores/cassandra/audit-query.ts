/** Finding audit records by the time they tell of, and counting them. Filters are evaluated here, over bounded pages. */
import { type AuditRecord, MAX_AUDIT_BYTES } from "../../domain/event/audit-model.ts"
import type {
  AuditCounts,
  AuditDimension,
  AuditPeriod,
  AuditQuery,
  AuditSummary,
} from "../../domain/event/audit-ports.ts"
import { compareUtf8 } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type AuditIndex, type AuditPlace, byTime } from "./audit-index.ts"
import { type AuditEntryRow, fits, passes, recordBytes, recordOf } from "./audit-rows.ts"
import type { SegmentRows } from "./segment-rows.ts"

/** Records that are read at once; each may have some ten thousand bytes. */
const READ_AT_ONCE = 100
/** Most records that one page looks at; where few of them fit, the page is short and goes on from there. */
const MAX_LOOKED_AT = 50_000

/** Queries over a log and its index. */
export class AuditQueries {
  readonly #rows: SegmentRows
  readonly #index: AuditIndex

  constructor(rows: SegmentRows, index: AuditIndex) {
    this.#rows = rows
    this.#index = index
  }

  /** See AuditStore.query. */
  async query(scope: CallScope, query: AuditQuery, page: PageRequest): Promise<Page<AuditRecord>> {
    const [timeMs, day, sequence] = page.cursor ?? []
    const cursor =
      timeMs === undefined || day === undefined || sequence === undefined
        ? undefined
        : { timeMs: Number(timeMs), day, sequence: BigInt(sequence) }
    const items: AuditRecord[] = []
    let bytes = 0
    let seen = 0
    let last: AuditPlace | undefined
    const cut = (): Page<AuditRecord> => ({ items, next: last && cursorOf(last) })
    for await (const found of this.#walk(scope, query, cursor)) {
      for (let at = 0; at < found.length; at += READ_AT_ONCE) {
        const some = found.slice(at, at + READ_AT_ONCE)
        const records = await this.#read(
          scope,
          some.filter((entry) => fits(entry, query)),
        )
        for (const entry of some) {
          const record = records.get(keyOf(entry))
          if (record !== undefined && passes(record, query)) {
            bytes += recordBytes(record)
            if (items.length === page.size || (items.length > 0 && bytes > MAX_AUDIT_BYTES)) return cut()
            items.push(record)
          }
          last = entry
          if (++seen >= MAX_LOOKED_AT) return cut()
        }
      }
    }
    return { items }
  }

  /** See AuditStore.summarize. */
  async summarize(
    scope: CallScope,
    query: AuditQuery,
    period: AuditPeriod,
    top: number,
  ): Promise<AuditSummary> {
    const tally = new Tally(period)
    for await (const found of this.#walk(scope, query, undefined)) {
      const fitting = found.filter((entry) => fits(entry, query))
      if (query.filter === undefined) {
        for (const entry of fitting) tally.add(entry)
        continue
      }
      for (let at = 0; at < fitting.length; at += READ_AT_ONCE) {
        const records = await this.#read(scope, fitting.slice(at, at + READ_AT_ONCE))
        for (const record of records.values()) if (passes(record, query)) tally.add(record)
      }
    }
    return tally.summary(top)
  }

  /** Filed records and those of the newest segment that are not filed yet, together in the order of answers. */
  async *#walk(
    scope: CallScope,
    query: AuditQuery,
    cursor: AuditPlace | undefined,
  ): AsyncGenerator<readonly AuditEntryRow[]> {
    // Before the index: what is filed meanwhile is in both, and nothing is in neither.
    let unfiled = await this.#unfiled(scope, cursor)
    const both = new Set(unfiled.map(keyOf))
    for await (const page of this.#index.walk(scope, query, cursor)) {
      const filed = both.size === 0 ? page : page.filter((entry) => !both.has(keyOf(entry)))
      const last = page.at(-1)
      if (last === undefined) continue
      const before = unfiled.filter((entry) => byTime(entry, last) < 0)
      unfiled = unfiled.slice(before.length)
      yield before.length === 0 ? filed : [...filed, ...before].sort(byTime)
    }
    if (unfiled.length > 0) yield unfiled
  }

  async #unfiled(scope: CallScope, cursor: AuditPlace | undefined): Promise<readonly AuditEntryRow[]> {
    const head = await this.#rows.newest(scope, false)
    if (head === undefined || head.indexed >= head.last) return []
    const rows = await this.#rows.read(scope, head.segment, head.indexed, Number(head.last - head.indexed))
    return rows
      .map((row) => ({ ...recordOf(row), segment: head.segment }))
      .filter((entry) => cursor === undefined || byTime(cursor, entry) < 0)
      .sort(byTime)
  }

  async #read(
    scope: CallScope,
    entries: readonly AuditEntryRow[],
  ): Promise<ReadonlyMap<string, AuditRecord>> {
    const segments = [...Map.groupBy(entries, ({ segment }) => segment)]
    const found = await Promise.all(
      segments.map(([segment, own]) =>
        this.#rows.pick(
          scope,
          segment,
          own.map(({ sequence }) => sequence),
        ),
      ),
    )
    return new Map(
      found
        .flat()
        .map((row) => recordOf(row))
        .map((record) => [keyOf(record), record]),
    )
  }
}

function keyOf({ day, sequence }: { readonly day: string; readonly sequence: bigint }): string {
  return `${day} ${sequence}`
}

function cursorOf({ timeMs, day, sequence }: AuditPlace): readonly string[] {
  return [String(timeMs), day, String(sequence)]
}

type Counted = Pick<AuditRecord, "timeMs" | "actor" | "action" | "resourceType" | "resourceId" | "outcome">

interface Count {
  count: bigint
  denied: bigint
  failed: bigint
}

class Tally {
  readonly #period: AuditPeriod
  readonly #total: Count = { count: 0n, denied: 0n, failed: 0n }
  readonly #actors = new Map<string, Count>()
  readonly #actions = new Map<string, Count>()
  readonly #resources = new Map<string, Count>()
  readonly #periods = new Map<number, Count>()

  constructor(period: AuditPeriod) {
    this.#period = period
  }

  add(record: Counted): void {
    const counts = [
      this.#total,
      countIn(this.#actors, record.actor),
      countIn(this.#actions, record.action),
      countIn(this.#resources, `${record.resourceType}/${record.resourceId}`),
      countIn(this.#periods, startOf(record.timeMs, this.#period)),
    ]
    for (const each of counts) {
      each.count++
      if (record.outcome === "denied") each.denied++
      if (record.outcome === "failure") each.failed++
    }
  }

  summary(top: number): AuditSummary {
    const periods = [...this.#periods].sort(([a], [b]) => a - b)
    return {
      total: { ...this.#total },
      actors: dimension(this.#actors, top),
      actions: dimension(this.#actions, top),
      resources: dimension(this.#resources, top),
      periods: periods.map(([startMs, counts]): AuditCounts & { startMs: number } => ({
        ...counts,
        startMs,
      })),
    }
  }
}

function countIn<K>(counts: Map<K, Count>, key: K): Count {
  let found = counts.get(key)
  if (found === undefined) {
    found = { count: 0n, denied: 0n, failed: 0n }
    counts.set(key, found)
  }
  return found
}

function dimension(counts: ReadonlyMap<string, Count>, top: number): AuditDimension {
  const sorted = [...counts].sort(([a, left], [b, right]) =>
    left.count === right.count ? compareUtf8(a, b) : left.count > right.count ? -1 : 1,
  )
  return {
    top: sorted.slice(0, top).map(([value, each]) => ({ value, ...each })),
    distinct: BigInt(counts.size),
  }
}

const PERIOD_DIGITS = { hour: 13, day: 10, month: 7 } as const
const EPOCH = "1970-01-01T00:00:00.000Z"

/** The beginning of the period that has the time, in UTC. */
function startOf(ms: number, period: AuditPeriod): number {
  const digits = PERIOD_DIGITS[period]
  return Date.parse(new Date(ms).toISOString().slice(0, digits) + EPOCH.slice(digits))
}
