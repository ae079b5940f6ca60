/** What all writes to hashes, lists and sorted sets share: making the key, its expiry, its size, its end. */
import { type CacheKind, type Expiration, expireTimeOf, timeToLiveOf } from "../../domain/cache/model.ts"
import type { KeyState } from "../../domain/cache/operations.ts"
import { type Collection, ENTRY_OVERHEAD_BYTES, Entry } from "./entry.ts"
import type { Space } from "./space.ts"

/** The parts of a growing operation that decide expiry. */
export interface Growing {
  readonly key: string
  readonly expiration: Expiration
  readonly refreshTtl: boolean
}

/** Makes an empty entry that {@link commit} puts into its space. */
export function make(
  space: Space,
  kind: CacheKind,
  collection: Collection,
  operation: Growing,
  nowMs: number,
): Entry {
  const entry = new Entry(operation.key, kind, undefined, "", collection)
  entry.bytes = ENTRY_OVERHEAD_BYTES + operation.key.length
  entry.expireTimeMs = expireTimeOf(operation.expiration, space.namespace, nowMs)
  entry.ttlMs = timeToLiveOf(operation.expiration, space.namespace)
  return entry
}

/** Restarts the time to live of an existing entry if the operation or the namespace asks for it. */
export function renew(space: Space, entry: Entry, operation: Growing, nowMs: number): void {
  if (!operation.refreshTtl && !space.namespace.refreshOnWrite) return
  if (operation.expiration !== undefined) {
    entry.expireTimeMs = expireTimeOf(operation.expiration, space.namespace, nowMs)
    entry.ttlMs = timeToLiveOf(operation.expiration, space.namespace)
  } else if (entry.ttlMs !== Number.POSITIVE_INFINITY) {
    entry.expireTimeMs = nowMs + entry.ttlMs
  }
}

/**
 * Ends a write that added to a collection: a new entry goes into the space, an old one is renewed. Journals header changes
 * itself; the content's changes are the caller's.
 */
export function commit(
  space: Space,
  entry: Entry,
  isNew: boolean,
  bytes: number,
  operation: Growing,
  nowMs: number,
): void {
  if (isNew) {
    entry.bytes = bytes
    entry.revision = space.tenant.nextRevision(nowMs)
    space.put(entry)
    return
  }
  space.remember(entry)
  space.resize(entry, bytes)
  renew(space, entry, operation, nowMs)
  entry.revision = space.tenant.nextRevision(nowMs)
}

/** Ends a write that took from a collection: an empty one is deleted, and others get a new revision. */
export function shrink(space: Space, entry: Entry, bytes: number, left: number, nowMs: number): void {
  if (left === 0) {
    space.remove(entry)
    return
  }
  space.remember(entry)
  space.resize(entry, bytes)
  entry.revision = space.tenant.nextRevision(nowMs)
}

/** The state that answers carry. */
export function stateOf(entry: Entry | undefined): KeyState {
  return entry === undefined
    ? { revision: 0n, expireTimeMs: Number.POSITIVE_INFINITY }
    : { revision: entry.revision, expireTimeMs: entry.expireTimeMs }
}
