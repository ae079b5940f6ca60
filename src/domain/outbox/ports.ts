/** What the relay and its operators need of the store that keeps the outbox. How entries are added is the adapter's own affair. */
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { OutboxEntry, OutboxFault, OutboxTopicStatus, ParkedEntry } from "./model.ts"

/** What to take. */
export interface OutboxClaim {
  readonly topic: string
  /** Most entries, at least 1. */
  readonly max: number
  /** Most bytes of their payloads; the first entry is taken whatever it weighs. */
  readonly maxBytes: number
  /** For how long nobody else gets these entries, nor any of their keys. */
  readonly leaseMs: number
}

/** Entries under a lease. */
export interface OutboxBatch {
  readonly topic: string
  /** Rises from claim to claim, over all topics and daemons. Settling needs it; a target may refuse a lower one. */
  readonly fence: bigint
  /** In the order in which they were added. */
  readonly entries: readonly OutboxEntry[]
}

/** An entry that has to be delivered again. */
export interface OutboxRetry {
  readonly id: string
  /** From now. */
  readonly delayMs: number
  /** Whether it counts against the entry itself; see {@link OutboxEntry.strikes}. */
  readonly strike: boolean
  readonly fault: OutboxFault
}

/** A batch that is settled. Its entries, where they are given, tell where to look for them. */
export type SettledBatch = Pick<OutboxBatch, "topic" | "fence"> & Partial<Pick<OutboxBatch, "entries">>

/** What became of a batch; an entry that is not named keeps its lease. */
export interface OutboxSettlement {
  /** Removed. */
  readonly done?: readonly string[]
  readonly retry?: readonly OutboxRetry[]
  readonly park?: readonly { readonly id: string; readonly fault: OutboxFault }[]
  /** Given back untried. */
  readonly release?: readonly string[]
}

/** Which parked entries. */
export interface ReplaySelection {
  /** Every topic by default. */
  readonly topic?: string | undefined
  /** Every parked entry by default. */
  readonly ids?: readonly string[] | undefined
}

/**
 * The outbox of one database. Every method runs with the platform's sight of all tenants, whatever the scope's tenant, and
 * rejects with STORE_UNAVAILABLE when nothing was applied for want of the store, OUTCOME_UNKNOWN when that cannot be told.
 */
export interface OutboxStore {
  /**
   * Leases entries that are due. Never one whose key has an entry under a lease or waiting for its next try, and of a key
   * always the first ones that are left, parked ones aside. Whoever commits how late: no entry is ever passed over.
   */
  claim(scope: CallScope, claim: OutboxClaim): Promise<OutboxBatch>
  /** Answers how many of the named entries were still under the batch's fence; to the others nothing happened. */
  settle(scope: CallScope, batch: SettledBatch, settlement: OutboxSettlement): Promise<number>
  /** Every topic that has entries, by name. */
  status(scope: CallScope): Promise<readonly OutboxTopicStatus[]>
  /** Parked entries of a topic, or of all, oldest first. */
  listParked(scope: CallScope, topic: string | undefined, page: PageRequest): Promise<Page<ParkedEntry>>
  /**
   * Makes parked entries due again with no strikes, at most `limit`, oldest first; answers how many. They keep their place: of
   * their key they come before all that was added later and is not done yet. A repeated scope.idempotency answers the first
   * count (REQUEST_ID_REUSED for another body).
   */
  replay(scope: CallScope, selection: ReplaySelection, limit: number): Promise<number>
}

/** What the methods of {@link OutboxStore} do. */
export const OUTBOX_STORE_OPERATIONS: Operations<OutboxStore> = {
  claim: "write",
  settle: "write",
  status: "read",
  listParked: "read",
  replay: "write",
}
