/** The audit log in Cassandra. */
import { canonicalJson, sameHash, utcDay } from "../../domain/event/audit-chain.ts"
import {
  AUDIT_BATCH_MAX,
  type AuditChainHead,
  type AuditDayHead,
  type AuditEntry,
  type AuditReceipt,
  type AuditRecord,
} from "../../domain/event/audit-model.ts"
import type {
  AuditPeriod,
  AuditPosition,
  AuditQuery,
  AuditStore,
  AuditSummary,
} from "../../domain/event/audit-ports.ts"
import { checkEventJson, checkEventText } from "../../domain/event/event-json.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { ByTenant } from "../../domain/kernel/tenant-classes.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { type AuditItem, auditPolicy } from "./audit-append.ts"
import { AuditDays } from "./audit-days.ts"
import { AuditIndex } from "./audit-index.ts"
import { AuditQueries } from "./audit-query.ts"
import { AuditRetention } from "./audit-retention.ts"
import { fits, passes, recordOf } from "./audit-rows.ts"
import type { Cluster } from "./database.ts"
import { SegmentLog } from "./segment-log.ts"

/** What {@link createCassandraAuditStore} is made of. */
export interface CassandraAuditStoreOptions {
  readonly cql: Cluster
  /** Tells the time of recording. */
  readonly clock?: Clock | undefined
  /** Tenants that may be recorded for at once. Default 64. */
  readonly concurrency?: number | undefined
  /** Records after which a day goes on in another partition. Default 50,000. */
  readonly segmentRecords?: number | undefined
}

const CONCURRENCY = 64
const SEGMENT_RECORDS = 50_000
const SCAN_ROWS = 100

/** An {@link AuditStore} over `cql`. */
export function createCassandraAuditStore(options: CassandraAuditStoreOptions): AuditStore {
  return new CassandraAuditStore(options)
}

class CassandraAuditStore implements AuditStore {
  readonly #log: SegmentLog<AuditItem, readonly AuditReceipt[]>
  readonly #days: AuditDays
  readonly #queries: AuditQueries
  readonly #retention: AuditRetention

  constructor(options: CassandraAuditStoreOptions) {
    const { cql, clock = systemClock, concurrency = CONCURRENCY } = options
    const index = new AuditIndex(cql)
    this.#log = new SegmentLog({
      cql,
      clock,
      table: { name: "audit_log" },
      policy: auditPolicy(cql, index, BigInt(options.segmentRecords ?? SEGMENT_RECORDS)),
      maxItems: AUDIT_BATCH_MAX,
      concurrency,
    })
    const { rows } = this.#log
    this.#days = new AuditDays(cql, rows)
    this.#queries = new AuditQueries(rows, index)
    this.#retention = new AuditRetention(cql, rows, this.#days, index)
  }

  async record(scope: CallScope, entries: readonly AuditEntry[]): Promise<readonly AuditReceipt[]> {
    requireLive(scope)
    const bytes = entries.reduce((sum, entry, at) => sum + checkedBytes(entry, `records[${at}]`), 0)
    return this.#log.append(scope, { idempotency: scope.idempotency, entries, bytes })
  }

  query(scope: CallScope, query: AuditQuery, page: PageRequest): Promise<Page<AuditRecord>> {
    return this.#queries.query(scope, query, page)
  }

  summarize(scope: CallScope, query: AuditQuery, period: AuditPeriod, top: number): Promise<AuditSummary> {
    return this.#queries.summarize(scope, query, period, top)
  }

  async scan(
    scope: CallScope,
    query: AuditQuery,
    after: AuditPosition | undefined,
    limit: number,
  ): Promise<readonly AuditRecord[]> {
    const found: AuditRecord[] = []
    const { rows } = this.#log
    for await (const { segment } of this.#days.segments(scope, after?.day, undefined)) {
      let sequence = segment.startsWith(`${after?.day}/`) ? (after?.sequence ?? 0n) : 0n
      for (;;) {
        const page = await rows.read(scope, segment, sequence, SCAN_ROWS)
        for (const record of page.map(recordOf)) {
          if (fits(record, query) && passes(record, query)) found.push(record)
          if (found.length === limit) return found
          sequence = record.sequence
        }
        if (page.length < SCAN_ROWS) break
      }
    }
    return found
  }

  days(
    scope: CallScope,
    startDay: string | undefined,
    endDay: string | undefined,
    limit: number,
  ): Promise<readonly AuditDayHead[]> {
    return this.#days.heads(scope, startDay, endDay, limit)
  }

  dayBefore(scope: CallScope, day: string): Promise<AuditDayHead | undefined> {
    return this.#days.before(scope, day)
  }

  chainHead(scope: CallScope): Promise<AuditChainHead | undefined> {
    return this.#days.newest(scope)
  }

  async chain(
    scope: CallScope,
    day: string,
    afterSequence: bigint,
    limit: number,
  ): Promise<readonly AuditRecord[]> {
    const found: AuditRecord[] = []
    for await (const { segment } of this.#days.segments(scope, day, day)) {
      const rows = await this.#log.rows.read(scope, segment, afterSequence, limit - found.length)
      found.push(...rows.map(recordOf))
      if (found.length >= limit) break
    }
    return found
  }

  async findHash(scope: CallScope, day: string, hash: Uint8Array): Promise<bigint | undefined> {
    for (let after = 0n; ; ) {
      const records = await this.chain(scope, day, after, SCAN_ROWS)
      for (const record of records) if (sameHash(record.hash, hash)) return record.sequence
      const last = records.at(-1)
      if (last === undefined) return undefined
      after = last.sequence
    }
  }

  retire(scope: CallScope, before: ByTenant<string>, limit: number): Promise<number> {
    const latest = latestRetired()
    const allowed = before.map((day) => [day, latest].toSorted()[0] ?? latest)
    return this.#retention.retire(scope, allowed, limit)
  }
}

const RETENTION_YEARS = 7

/** Days from here on are kept whatever anybody says, by this machine's own clock. */
function latestRetired(): string {
  const cutoff = new Date()
  cutoff.setUTCFullYear(cutoff.getUTCFullYear() - RETENTION_YEARS)
  return utcDay(cutoff.getTime())
}

/** What a record has beside its texts: hashes, times, names of members. */
const RECORD_BYTES = 700

/** Throws INVALID_FIELD for what some engine could not keep. Answers about how many bytes the entry has in a row. */
function checkedBytes(entry: AuditEntry, path: string): number {
  const texts = {
    actor: entry.actor,
    action: entry.action,
    resource_type: entry.resourceType,
    resource_id: entry.resourceId ?? "",
    ip_address: entry.ipAddress ?? "",
    user_agent: entry.userAgent ?? "",
    correlation_id: entry.correlationId ?? "",
  }
  let bytes = RECORD_BYTES
  for (const [name, text] of Object.entries(texts)) {
    checkEventText(text, `${path}.${name}`)
    bytes += Buffer.byteLength(text)
  }
  if (entry.details === undefined) return bytes
  checkEventJson(entry.details, `${path}.details`)
  return bytes + Buffer.byteLength(canonicalJson(entry.details)) * 1.5
}
