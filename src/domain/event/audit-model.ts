/** Audit records as the domain sees them. Times are milliseconds since the epoch; days are `YYYY-MM-DD` in UTC. */
import type { JsonObject } from "../kernel/json.ts"

/** How an audited action ended. */
export type AuditOutcome = "success" | "failure" | "denied"

/** All outcomes, as filters name them. */
export const AUDIT_OUTCOMES: readonly AuditOutcome[] = ["success", "failure", "denied"]

/** Something to record. */
export interface AuditEntry {
  /**
   * The record's id; the store makes one by default. It names the record and guards nothing: what keeps a repetition from being
   * recorded twice is scope.idempotency.
   */
  readonly id?: string | undefined
  readonly actor: string
  readonly action: string
  readonly resourceType: string
  /** Empty by default. */
  readonly resourceId?: string | undefined
  readonly outcome: AuditOutcome
  /** When it happened; when it is recorded by default. */
  readonly timeMs?: number | undefined
  /** Empty by default, like the two below. */
  readonly ipAddress?: string | undefined
  readonly userAgent?: string | undefined
  readonly correlationId?: string | undefined
  /** Never secrets: nothing can remove them. */
  readonly details?: JsonObject | undefined
}

/** Most entries in one append. */
export const AUDIT_BATCH_MAX = 500

/** About the most bytes that one answer with records has on the wire; one record is always answered. */
export const MAX_AUDIT_BYTES = 3_145_728

/** A record as it stands in the log. */
export interface AuditRecord {
  readonly id: string
  readonly day: string
  /** 1, 2, 3 and so on within the day. */
  readonly sequence: bigint
  readonly timeMs: number
  readonly recordMs: number
  readonly actor: string
  readonly action: string
  readonly resourceType: string
  readonly resourceId: string
  readonly outcome: AuditOutcome
  readonly ipAddress: string
  readonly userAgent: string
  readonly correlationId: string
  /** The canonical JSON that the hash covers; see {@link canonicalJson} in ./audit-chain. */
  readonly detailsJson: string
  readonly prevHash: Uint8Array
  readonly hash: Uint8Array
}

/** Where a record stands. */
export interface AuditReceipt {
  readonly id: string
  readonly day: string
  readonly sequence: bigint
  readonly hash: Uint8Array
}

/** The head of one day's chain, and what the log really has of that day. */
export interface AuditDayHead {
  readonly day: string
  readonly records: bigint
  readonly prevHash: Uint8Array
  readonly head: Uint8Array
  /** Retention has removed the records. */
  readonly retired: boolean
  /** The highest sequence found, 0 for none, seen together with the head. */
  readonly lastSequence: bigint
}

/** The tenant's newest head, kept apart from the days. */
export interface AuditChainHead {
  readonly day: string
  readonly records: bigint
  readonly head: Uint8Array
}
