/** Locks: what they are and what a store of them must do. Times are milliseconds since the epoch. */
import type { JsonObject } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import type { CallScope } from "../kernel/scope.ts"

/** Who holds a lock. */
export interface LockHolder {
  readonly ownerId: string
  /** Greater than every earlier token of the lock. */
  readonly token: bigint
  readonly acquireMs: number
  readonly expireMs: number
  readonly metadata: JsonObject
}

/** What a caller asks for. */
export interface LockRequest {
  readonly name: string
  readonly ownerId: string
  readonly ttlMs: number
  readonly metadata: JsonObject
}

/** The outcome of one attempt. `holder` is the caller's own holding, or who has it instead. */
export type LockAttempt =
  | { readonly acquired: true; readonly holder: LockHolder }
  | { readonly acquired: false; readonly holder?: LockHolder | undefined }

/**
 * Locks that are never held twice at once. Every method rejects with STORE_UNAVAILABLE when nothing was applied for want
 * of the store; mutations replay their first result for a repeated scope.idempotency (REQUEST_ID_REUSED for another body).
 */
export interface LockStore {
  /** One attempt, without waiting. An attempt that failed is not kept under scope.idempotency. */
  tryAcquire(scope: CallScope, request: LockRequest): Promise<LockAttempt>
  /** Ends the lease `ttlMs` from now and answers when that is. LOCK_NOT_HELD. */
  renew(scope: CallScope, name: string, token: bigint, ttlMs: number): Promise<number>
  /** Frees the lock. LOCK_NOT_HELD. */
  release(scope: CallScope, name: string, token: bigint): Promise<void>
  /** Who holds it now. */
  get(scope: CallScope, name: string): Promise<LockHolder | undefined>
  /** Forgets at most `limit` locks that were free for a day; for all tenants in the platform's scope. */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** What the methods of {@link LockStore} do. */
export const LOCK_STORE_OPERATIONS: Operations<LockStore> = {
  tryAcquire: "write",
  renew: "write",
  release: "write",
  sweep: "write",
  get: "read",
}
