/** What the runner of sagas needs of a store. */
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { NewSaga, Saga, SagaState } from "./model.ts"

/** A saga that nobody else works on until the lease ends. */
export interface LeasedSaga {
  readonly saga: Saga
  /** Rises with every lease; {@link SagaStore.save} needs it. */
  readonly fence: bigint
}

/** Which sagas to list. */
export interface SagaQuery {
  readonly kind?: string | undefined
  readonly state?: SagaState | undefined
}

/**
 * Sagas of one database. Scopes of tenants see their own; the daemon's scope sees all. Rejects with STORE_UNAVAILABLE when nothing
 * was applied for want of the store, OUTCOME_UNKNOWN when that cannot be told.
 */
export interface SagaStore {
  /**
   * Begins a saga under a lease. With an unfinished one of the same kind, tenant and subject that one is answered, without a
   * lease (fence 0). A repeated scope.idempotency answers the saga that it began, as it is now.
   */
  begin(scope: CallScope, draft: NewSaga, leaseMs: number): Promise<LeasedSaga>
  /** Leases at most `limit` sagas that are due and that nobody works on. */
  claim(scope: CallScope, limit: number, leaseMs: number): Promise<readonly LeasedSaga[]>
  /**
   * Keeps the progress and extends the lease, or ends it with `leaseMs` 0. LEASE_LOST when somebody else has taken over. Again it
   * changes nothing.
   */
  save(scope: CallScope, fence: bigint, saga: Saga, leaseMs: number): Promise<void>
  /** NOT_FOUND. */
  get(scope: CallScope, id: string): Promise<Saga>
  /** Newest first. */
  list(scope: CallScope, query: SagaQuery, page: PageRequest): Promise<Page<Saga>>
  /** Has a stuck saga tried again from where it is. NOT_FOUND; FAILED_PRECONDITION unless it is stuck. */
  retry(scope: CallScope, id: string): Promise<Saga>
  /** Removes at most `limit` sagas that were over before `beforeMs`; answers how many. */
  sweep(scope: CallScope, beforeMs: number, limit: number): Promise<number>
}

/** What the methods of {@link SagaStore} do. */
export const SAGA_STORE_OPERATIONS: Operations<SagaStore> = {
  begin: "write",
  claim: "write",
  save: "repeatable",
  retry: "write",
  sweep: "write",
  get: "read",
  list: "read",
}
