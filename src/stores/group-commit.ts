/**
 * Group commit: callers that arrive while a write is under way share the next one. Gives one statement and one transaction
 * for many small writes, and answers a caller only when its group is durable.
 */
import type { CallScope } from "../domain/kernel/scope.ts"

/** The outcome of one item of a group. */
export type Outcome<R> =
  | { readonly ok: true; readonly value: R }
  | { readonly ok: false; readonly error: unknown }

/** How groups are formed. */
export interface GroupCommitOptions<I, R> {
  /** Items with one key may share a group; different keys never do. Usually the tenant. */
  key(scope: CallScope, item: I): string
  /** Most items in one group. */
  readonly maxItems: number
  /** Most bytes in one group, by {@link GroupCommitOptions.bytes}. */
  readonly maxBytes: number
  /** An item's size in bytes, roughly. */
  bytes(item: I): number
  /** Groups of different keys that may be under way at once. One for an engine with one connection. */
  readonly concurrency: number
  /**
   * Writes a group in one transaction and answers one outcome per item, in order. Rejecting fails every item with the same
   * error, so an item's own fault (a lost race, bad input) belongs into its outcome.
   * @param scope the scope of the group's first item, without its deadline and idempotency.
   */
  run(scope: CallScope, items: readonly I[]): Promise<readonly Outcome<R>[]>
}
