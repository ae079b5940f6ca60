/** What the audit log needs of a store. */
import type { FieldTable, Filter } from "../kernel/filter/index.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { ByTenant } from "../kernel/tenant-classes.ts"
import {
  AUDIT_OUTCOMES,
  type AuditChainHead,
  type AuditDayHead,
  type AuditEntry,
  type AuditOutcome,
  type AuditReceipt,
  type AuditRecord,
} from "./audit-model.ts"

/** The fields that a filter over audit records may name. */
export const AUDIT_FILTER_FIELDS: FieldTable = {
  record_id: { type: "string" },
  actor: { type: "string" },
  action: { type: "string" },
  resource_type: { type: "string" },
  resource_id: { type: "string" },
  outcome: { type: "enum", values: AUDIT_OUTCOMES },
  time: { type: "timestamp" },
  record_time: { type: "timestamp" },
  ip_address: { type: "string" },
  user_agent: { type: "string" },
  correlation_id: { type: "string" },
  details: { type: "json" },
}

/** Which records; everything that is set must hold. */
export interface AuditQuery {
  readonly actor?: string | undefined
  readonly action?: string | undefined
  readonly resourceType?: string | undefined
  readonly resourceId?: string | undefined
  readonly outcome?: AuditOutcome | undefined
  /** Inclusive. */
  readonly startMs?: number | undefined
  /** Exclusive. */
  readonly endMs?: number | undefined
  /** Over {@link AUDIT_FILTER_FIELDS}. */
  readonly filter?: Filter | undefined
}

/** Width of a summary's time buckets, in UTC. */
export type AuditPeriod = "hour" | "day" | "month"

/** How many records, and how many of them did not succeed. */
export interface AuditCounts {
  readonly count: bigint
  readonly denied: bigint
  readonly failed: bigint
}

/** The most frequent values of one dimension, most frequent first, then by value. */
export interface AuditDimension {
  readonly top: readonly (AuditCounts & { readonly value: string })[]
  /** Different values in all. */
  readonly distinct: bigint
}

/** The compliance report. */
export interface AuditSummary {
  readonly total: AuditCounts
  readonly actors: AuditDimension
  readonly actions: AuditDimension
  /** Values are `type/id`. */
  readonly resources: AuditDimension
  /** Oldest first, without empty buckets. */
  readonly periods: readonly (AuditCounts & { readonly startMs: number })[]
}

/** A place in the order of recording: after this record of this day. */
export interface AuditPosition {
  readonly day: string
  readonly sequence: bigint
}

/**
 * The immutable log. There is no update and no delete. Every method rejects with STORE_UNAVAILABLE when nothing was applied
 * for want of the store.
 */
export interface AuditStore {
  /**
   * Appends 1 to AUDIT_BATCH_MAX entries, all or none, as consecutive records of one day. Durable when it resolves.
   * A repeated scope.idempotency answers the first receipts (REQUEST_ID_REUSED for another body).
   */
  record(scope: CallScope, entries: readonly AuditEntry[]): Promise<readonly AuditReceipt[]>
  /** Latest `time` first. */
  query(scope: CallScope, query: AuditQuery, page: PageRequest): Promise<Page<AuditRecord>>
  /** Counts. `query` has both ends of its time range. */
  summarize(scope: CallScope, query: AuditQuery, period: AuditPeriod, top: number): Promise<AuditSummary>
  /** Records that match, in the order of recording, after a position. */
  scan(
    scope: CallScope,
    query: AuditQuery,
    after: AuditPosition | undefined,
    limit: number,
  ): Promise<readonly AuditRecord[]>
  /** Heads of the days in a range (both inclusive, undefined: open), oldest first, at most `limit`. */
  days(
    scope: CallScope,
    startDay: string | undefined,
    endDay: string | undefined,
    limit: number,
  ): Promise<readonly AuditDayHead[]>
  /** The head of the last day before `day`. */
  dayBefore(scope: CallScope, day: string): Promise<AuditDayHead | undefined>
  /** The tenant's newest head; undefined when nothing was ever recorded. */
  chainHead(scope: CallScope): Promise<AuditChainHead | undefined>
  /** Records of one day after a sequence, in their order. */
  chain(scope: CallScope, day: string, afterSequence: bigint, limit: number): Promise<readonly AuditRecord[]>
  /** The sequence of the day's record that has this hash. */
  findHash(scope: CallScope, day: string, hash: Uint8Array): Promise<bigint | undefined>
  /**
   * Removes the records of at most `limit` days that are wholly before their tenant's day in `before`, leaving their heads. Answers how
   * many days; in the platform's scope more than `limit` where the engine drops a whole period at once.
   */
  retire(scope: CallScope, before: ByTenant<string>, limit: number): Promise<number>
}

/** What the methods of {@link AuditStore} do. */
export const AUDIT_STORE_OPERATIONS: Operations<AuditStore> = {
  record: "write",
  retire: "write",
  query: "read",
  summarize: "read",
  scan: "read",
  days: "read",
  dayBefore: "read",
  chainHead: "read",
  chain: "read",
  findHash: "read",
}
