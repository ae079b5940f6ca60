/** Operations on values, and those that take any kind of key. */
import { type CacheValue, expireTimeOf, timeToLiveOf } from "../../domain/cache/model.ts"
import type {
  DeleteOperation,
  ExpireOperation,
  IncrementOperation,
  KeyState,
  OperationResults,
  SetOperation,
} from "../../domain/cache/operations.ts"
import { valueBytes } from "../../domain/cache/size.ts"
import { revisionMismatch } from "../../domain/kernel/errors.ts"
import { add } from "./arithmetic.ts"
import { renew } from "./collections.ts"
import { ENTRY_OVERHEAD_BYTES, Entry } from "./entry.ts"
import type { Space } from "./space.ts"

const ABSENT: KeyState = { revision: 0n, expireTimeMs: Number.POSITIVE_INFINITY }

/** Reads a value; restarts its time to live where the namespace says so. */
export function get(space: Space, key: string, nowMs: number): Entry | undefined {
  const entry = space.findKind(key, "value", nowMs)
  if (entry !== undefined && space.namespace.refreshOnRead) touch(space, entry, nowMs)
  return entry
}

/** Restarts the time to live of an entry that has one. */
export function touch(space: Space, entry: Entry, nowMs: number): void {
  if (entry.ttlMs === Number.POSITIVE_INFINITY) return
  space.remember(entry)
  entry.expireTimeMs = nowMs + entry.ttlMs
}

/** Raises REVISION_MISMATCH where the expectation (0n: absent) does not hold. */
export function checkRevision(key: string, expected: bigint | undefined, entry: Entry | undefined): void {
  if (expected === undefined) return
  const actual = entry?.revision ?? 0n
  if (actual !== expected) throw revisionMismatch("cache key", key, expected, actual)
}

/** Writes a value over whatever is there. */
export function set(space: Space, operation: SetOperation, nowMs: number): OperationResults["set"] {
  const { key, condition } = operation
  const before = space.find(key, nowMs)
  checkRevision(key, operation.ifRevision, before)
  if (condition !== "always" && (condition === "ifPresent") !== (before !== undefined)) {
    return {
      applied: false,
      revision: before?.revision ?? 0n,
      expireTimeMs: before?.expireTimeMs ?? Number.POSITIVE_INFINITY,
    }
  }
  const entry = valueEntry(key, own(operation))
  space.core.checkFits(space, entry.bytes)
  if (before !== undefined && operation.keepExpiration) {
    entry.expireTimeMs = before.expireTimeMs
    entry.ttlMs = before.ttlMs
  } else {
    entry.expireTimeMs = expireTimeOf(operation.expiration, space.namespace, nowMs)
    entry.ttlMs = timeToLiveOf(operation.expiration, space.namespace)
  }
  entry.revision = space.tenant.nextRevision(nowMs)
  space.tag(entry, operation.tags)
  space.put(entry)
  return { applied: true, revision: entry.revision, expireTimeMs: entry.expireTimeMs }
}

/** Deletes a key; answers whether there was one. */
export function remove(space: Space, operation: DeleteOperation, nowMs: number): boolean {
  const entry = space.find(operation.key, nowMs)
  checkRevision(operation.key, operation.ifRevision, entry)
  if (entry === undefined) return false
  space.remove(entry)
  return true
}

/** Changes when a key expires. */
export function expire(space: Space, operation: ExpireOperation, nowMs: number): OperationResults["expire"] {
  const entry = space.find(operation.key, nowMs)
  checkRevision(operation.key, operation.ifRevision, entry)
  if (entry === undefined) return { found: false, ...ABSENT }
  space.remember(entry)
  entry.expireTimeMs = expireTimeOf(operation.expiration, space.namespace, nowMs)
  entry.ttlMs = timeToLiveOf(operation.expiration, space.namespace)
  entry.revision = space.tenant.nextRevision(nowMs)
  return { found: true, revision: entry.revision, expireTimeMs: entry.expireTimeMs }
}

/** Adds to a number. */
export function increment(
  space: Space,
  operation: IncrementOperation,
  nowMs: number,
): OperationResults["increment"] {
  const { key } = operation
  const before = space.findKind(key, "value", nowMs)
  const { sum, applied } = add(key, before, operation.addition)
  if (!applied)
    return {
      sum,
      applied,
      revision: before?.revision ?? 0n,
      expireTimeMs: before?.expireTimeMs ?? Number.POSITIVE_INFINITY,
    }
  const entry = valueEntry(key, { content: sum, contentType: "" })
  space.core.checkFits(space, entry.bytes)
  if (before === undefined) {
    entry.expireTimeMs = expireTimeOf(operation.expiration, space.namespace, nowMs)
    entry.ttlMs = timeToLiveOf(operation.expiration, space.namespace)
  } else {
    entry.expireTimeMs = before.expireTimeMs
    entry.ttlMs = before.ttlMs
    renew(space, entry, operation, nowMs)
    space.tag(entry, before.tags)
  }
  entry.revision = space.tenant.nextRevision(nowMs)
  space.put(entry)
  return { sum, applied, revision: entry.revision, expireTimeMs: entry.expireTimeMs }
}

function valueEntry(key: string, value: CacheValue): Entry {
  const entry = new Entry(key, "value", value.content, value.contentType)
  entry.bytes = ENTRY_OVERHEAD_BYTES + key.length + valueBytes(value)
  return entry
}

/** The value with bytes of its own: those of a request are a view into a network buffer, which would be kept with them. */
export function own(value: CacheValue): CacheValue {
  const { content, contentType } = value
  if (content.case !== "data") return { content, contentType }
  return { content: { case: "data", value: Uint8Array.prototype.slice.call(content.value) }, contentType }
}
