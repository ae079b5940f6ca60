/** The audit log in Cassandra, as archives read and write it. */
import type { ItemOf } from "../../domain/archive/model.ts"
import type { Archive, ItemSink } from "../../domain/archive/ports.ts"
import { AUDIT_GENESIS } from "../../domain/event/audit-chain.ts"
import type { AuditOutcome, AuditRecord } from "../../domain/event/audit-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { insertRows, type NewSegment, openSegments } from "./archive-segments.ts"
import { moveChain } from "./audit-append.ts"
import { AuditIndex } from "./audit-index.ts"
import { metaText, rowOf } from "./audit-rows.ts"
import { createCassandraAuditStore } from "./audit-store.ts"
import type { Cluster } from "./database.ts"
import { type LogTable, SegmentRows } from "./segment-rows.ts"

const TABLE: LogTable = { name: "audit_log" }
const DAYS = 100
const RECORDS = 100
const SEGMENT_RECORDS = 50_000n

/** How {@link createCassandraAuditArchive} works. */
export interface AuditArchiveOptions {
  readonly cql: Cluster
  /** Records after which a day goes on in another partition; for tests. */
  readonly segmentRecords?: bigint | undefined
}

/** The archive of the audit log over a keyspace. The log is there when {@link Archive.finish} resolves, not before. */
export function createCassandraAuditArchive(options: AuditArchiveOptions): Archive {
  const { cql, segmentRecords = SEGMENT_RECORDS } = options
  const rows = new SegmentRows(cql, TABLE)
  const writer = new AuditWriter(cql, rows, segmentRecords)
  return {
    plane: "audit",
    engine: "cassandra",
    kinds: ["auditDay", "auditRecord"],
    holds: async (scope) => (await rows.segments(scope, { newestFirst: true, limit: 1 })).length > 0,
    unfinished: async () => [],
    read: (scope, sink) => readLog(cql, scope, sink),
    write: (scope, kind, items) => {
      // The use case hands each kind's items only.
      if (kind === "auditDay") return writer.days(items as readonly ItemOf<"auditDay">[])
      return writer.records(scope, items as readonly ItemOf<"auditRecord">[])
    },
    finish: async (scope) => {
      await writer.finish(scope)
      return []
    },
  }
}

async function readLog(cql: Cluster, scope: CallScope, sink: ItemSink): Promise<void> {
  const log = createCassandraAuditStore({ cql })
  const days: string[] = []
  for (let start: string | undefined; ; ) {
    const heads = await log.days(scope, start, undefined, DAYS)
    await sink(
      "auditDay",
      heads.map(({ day, records, prevHash, head, retired }) => ({ day, records, prevHash, head, retired })),
    )
    days.push(...heads.filter(({ retired }) => !retired).map(({ day }) => day))
    const last = heads.at(-1)
    if (last === undefined || heads.length < DAYS) break
    start = new Date(Date.parse(last.day) + 86_400_000).toISOString().slice(0, 10)
  }
  for (const day of days) {
    for (let after = 0n; ; ) {
      requireLive(scope)
      const records = await log.chain(scope, day, after, RECORDS)
      await sink("auditRecord", records.map(recordItem))
      const last = records.at(-1)
      if (last === undefined || records.length < RECORDS) break
      after = last.sequence
    }
  }
}

function recordItem(record: AuditRecord): ItemOf<"auditRecord"> {
  const { timeMs, recordMs, detailsJson, ...rest } = record
  return { ...rest, time: timeMs, recordTime: recordMs, details: detailsJson }
}

function recordOf({ time, recordTime, details, ...rest }: ItemOf<"auditRecord">): AuditRecord {
  // Outcomes are those that were kept.
  return {
    ...rest,
    outcome: rest.outcome as AuditOutcome,
    timeMs: time,
    recordMs: recordTime,
    detailsJson: details,
  }
}

/** Puts records where they belong, and at the end the heads of the segments, which make them a log. */
class AuditWriter {
  readonly #cql: Cluster
  readonly #rows: SegmentRows
  readonly #index: AuditIndex
  readonly #size: bigint
  /** By day, so that an attempt that is repeated adds nothing. */
  readonly #days = new Map<string, ItemOf<"auditDay">>()
  /** The hash of the last record of each part that is full. */
  readonly #ends = new Map<string, Uint8Array>()

  constructor(cql: Cluster, rows: SegmentRows, size: bigint) {
    this.#cql = cql
    this.#rows = rows
    this.#index = new AuditIndex(cql)
    this.#size = size
  }

  async days(items: readonly ItemOf<"auditDay">[]): Promise<void> {
    for (const item of items) this.#days.set(item.day, item)
  }

  async records(scope: CallScope, items: readonly ItemOf<"auditRecord">[]): Promise<void> {
    const segmentOf = ({ day, sequence }: AuditRecord) => segmentName(day, (sequence - 1n) / this.#size)
    for (const [segment, records] of Map.groupBy(items.map(recordOf), segmentOf)) {
      await insertRows(this.#cql, scope, TABLE, segment, records.map(rowOf))
      await this.#index.file(scope, segment, records)
      const end = records.find(({ sequence }) => sequence % this.#size === 0n)
      if (end !== undefined) this.#ends.set(segment, end.hash)
    }
  }

  async finish(scope: CallScope): Promise<void> {
    const days = [...this.#days.values()].sort((a, b) => (a.day < b.day ? -1 : 1))
    const newest = days.at(-1)
    if (newest === undefined) return
    await openSegments(
      this.#rows,
      scope,
      days.flatMap((day) => this.#segments(day)),
    )
    await moveChain(this.#cql, scope, { day: newest.day, sequence: newest.records, hash: newest.head })
  }

  #segments({ day, records, prevHash, head, retired }: ItemOf<"auditDay">): NewSegment[] {
    const segments: NewSegment[] = []
    for (let first = 0n; first === 0n || first < records; first += this.#size) {
      const segment = segmentName(day, first / this.#size)
      const end = first + this.#size
      const last = end < records ? end : records
      // Records that are gone have left no hashes; nothing is chained to those within a day.
      const hash = last === records ? head : (this.#ends.get(segment) ?? AUDIT_GENESIS)
      const meta = metaText({ prevHash, head: hash, first })
      segments.push({ segment, last, meta, openedMs: Date.parse(day), retired })
    }
    return segments
  }
}

function segmentName(day: string, part: bigint): string {
  return `${day}/${String(part).padStart(4, "0")}`
}
