/**
 * What billing asks of a store. Every mutation honours `scope.idempotency`. Every method rejects with the reasons of
 * ../kernel/errors only; besides those named below: STORE_UNAVAILABLE, OUTCOME_UNKNOWN, DEADLINE_EXCEEDED, CANCELLED.
 */

import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type {
  Budget,
  BudgetFields,
  BudgetView,
  Dimensions,
  MeterQuantity,
  RecordResult,
  Reservation,
  UsageEvent,
  UsageQuery,
  UsageRow,
  UsageSubject,
} from "./model.ts"

/** Usage. */
export interface UsageStore {
  /**
   * Records the batch (1 to 500), all or nothing. An id that was recorded before, and is not retired, with the same content counts as a duplicate;
   * with other content it is INVALID_FIELD at `events[i].event_id`. The claim of an id and its effect are one transaction.
   */
  record(scope: CallScope, events: readonly UsageEvent[]): Promise<RecordResult>
  /** By period, then by group in byte order. */
  aggregate(scope: CallScope, query: UsageQuery, page: PageRequest): Promise<Page<UsageRow>>
  /**
   * In the platform's scope only, for all tenants: takes events of before the month that holds `beforeMs`, at most those of one month
   * or `limit`, and keeps their sum per tenant, meter and month, which {@link UsageStore.aggregate} counts at the month's first
   * instant, for nobody and without dimensions. An id is forgotten when both its event and its recording lie before that month. Never takes
   * anything of this month or later. Budgets do not change. Answers how much it took; 0 when nothing is left, or not now.
   */
  retire(scope: CallScope, beforeMs: number, limit: number): Promise<number>
  /** Refuses new batches with DRAINING and resolves when those that wait are recorded. */
  close(): Promise<void>
}

/** What to set aside. */
export interface ReserveInput {
  /** Of different meters. */
  readonly items: readonly MeterQuantity[]
  readonly subject: UsageSubject
  readonly expireTime: number
}

/** What was set aside. */
export interface ReserveResult {
  readonly reservation: Reservation
  readonly exceededSoftBudgetIds: readonly string[]
}

/** What was used of a reservation. */
export interface SettleInput {
  readonly items: readonly MeterQuantity[]
  readonly eventTime: number | undefined
  readonly dimensions: Dimensions
}

/** Budgets and reservations against them. */
export interface BudgetStore {
  /** Creates or replaces. REVISION_MISMATCH unless at `ifRevision` (0: absent), where that is given. */
  set(scope: CallScope, budget: BudgetFields, ifRevision?: bigint): Promise<Budget>
  /** With its status in the period that holds `time`. NOT_FOUND. */
  get(scope: CallScope, id: string, time?: number): Promise<BudgetView>
  /** By id in byte order, with their status now. */
  list(scope: CallScope, meter: string | undefined, page: PageRequest): Promise<Page<BudgetView>>
  /** NOT_FOUND, REVISION_MISMATCH. */
  delete(scope: CallScope, id: string, ifRevision?: bigint): Promise<void>
  /** All or nothing. BUDGET_EXCEEDED; concurrent reservations together never pass a hard budget. */
  reserve(scope: CallScope, input: ReserveInput): Promise<ReserveResult>
  /** NOT_FOUND; FAILED_PRECONDITION when released or settled otherwise; INVALID_FIELD for a meter that is not in it. */
  settle(scope: CallScope, id: string, input: SettleInput): Promise<Reservation>
  /** NOT_FOUND; FAILED_PRECONDITION when settled. */
  release(scope: CallScope, id: string): Promise<Reservation>
  /** Deletes up to `limit` reservations of the scope's tenants that can be settled no more. Answers how many. */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** What the methods of {@link UsageStore} do. */
export const USAGE_STORE_OPERATIONS: Operations<UsageStore> = {
  record: "write",
  aggregate: "read",
  retire: "write",
  close: "plain",
}

/** What the methods of {@link BudgetStore} do. */
export const BUDGET_STORE_OPERATIONS: Operations<BudgetStore> = {
  set: "write",
  delete: "write",
  reserve: "write",
  settle: "write",
  release: "write",
  get: "read",
  list: "read",
  sweep: "write",
}
