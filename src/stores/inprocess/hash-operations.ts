/** Operations on hashes. */
import type { CacheValue } from "../../domain/cache/model.ts"
import type {
  HashDeleteOperation,
  HashField,
  HashGetOperation,
  HashIncrementOperation,
  HashSetOperation,
  OperationResults,
} from "../../domain/cache/operations.ts"
import { valueBytes } from "../../domain/cache/size.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import { add } from "./arithmetic.ts"
import { commit, make, shrink, stateOf } from "./collections.ts"
import { type Entry, ITEM_OVERHEAD_BYTES } from "./entry.ts"
import { HashTable } from "./hash-table.ts"
import type { Space } from "./space.ts"
import { checkRevision, own, touch } from "./value-operations.ts"

interface Found {
  readonly entry: Entry
  readonly table: HashTable
}

function find(space: Space, key: string, nowMs: number): Found | undefined {
  const entry = space.findKind(key, "hash", nowMs)
  return entry?.collection instanceof HashTable ? { entry, table: entry.collection } : undefined
}

/** Sets fields; all or none. */
export function hashSet(
  space: Space,
  operation: HashSetOperation,
  nowMs: number,
): OperationResults["hashSet"] {
  const found = find(space, operation.key, nowMs)
  checkRevision(operation.key, operation.ifRevision, found?.entry)
  const fields = new Map<string, CacheValue>()
  for (const { name, value } of operation.fields) {
    if (!operation.onlyIfAbsent || (found?.table.get(name) === undefined && !fields.has(name))) {
      fields.set(name, own(value))
    }
  }
  if (found !== undefined && fields.size === 0) {
    return { ...stateOf(found.entry), created: 0, length: found.table.size }
  }
  const { entry, created } = write(space, found, fields, operation, nowMs)
  return { ...stateOf(entry.entry), created, length: entry.table.size }
}

function write(
  space: Space,
  found: Found | undefined,
  fields: ReadonlyMap<string, CacheValue>,
  operation: HashSetOperation | HashIncrementOperation,
  nowMs: number,
): { readonly entry: Found; readonly created: number } {
  const table = found?.table ?? new HashTable()
  const entry = found?.entry ?? make(space, "hash", table, operation, nowMs)
  let { bytes } = entry
  let created = 0
  const slots: { readonly name: string; readonly value: CacheValue; readonly bytes: number }[] = []
  for (const [name, value] of fields) {
    const before = table.get(name)
    const size = ITEM_OVERHEAD_BYTES + name.length + valueBytes(value)
    bytes += size - (before?.bytes ?? 0)
    if (before === undefined) created++
    slots.push({ name, value, bytes: size })
  }
  const { maximumLength } = space.namespace
  if (created > 0 && table.size + created > maximumLength) {
    throw limitExceeded("hash.length", table.size + created, maximumLength)
  }
  space.core.checkFits(space, bytes)
  for (const { name, value, bytes: size } of slots) {
    const before = table.get(name)
    space.core.journal?.note(() => table.restore(name, before))
    table.set(name, value, size)
  }
  commit(space, entry, found === undefined, bytes, operation, nowMs)
  return { entry: { entry, table }, created }
}

/** Reads fields. */
export function hashGet(
  space: Space,
  operation: HashGetOperation,
  nowMs: number,
): OperationResults["hashGet"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { ...stateOf(undefined), found: false, fields: [], length: 0 }
  if (space.namespace.refreshOnRead) touch(space, found.entry, nowMs)
  const fields: HashField[] = []
  if (operation.names.length === 0) {
    for (const [name, slot] of found.table.entries()) {
      space.core.answer(slot.bytes)
      fields.push({ name, value: slot.value })
    }
  } else {
    for (const name of operation.names) {
      const slot = found.table.get(name)
      if (slot === undefined) continue
      space.core.answer(slot.bytes)
      fields.push({ name, value: slot.value })
    }
  }
  return { ...stateOf(found.entry), found: true, fields, length: found.table.size }
}

/** Deletes fields. */
export function hashDelete(
  space: Space,
  operation: HashDeleteOperation,
  nowMs: number,
): OperationResults["hashDelete"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { deleted: 0, length: 0 }
  const { entry, table } = found
  let { bytes } = entry
  let deleted = 0
  for (const name of operation.names) {
    const slot = table.get(name)
    if (slot === undefined) continue
    space.core.journal?.note(() => table.restore(name, slot))
    table.delete(name)
    bytes -= slot.bytes
    deleted++
  }
  if (deleted > 0) shrink(space, entry, bytes, table.size, nowMs)
  return { deleted, length: table.size }
}

/** Adds to a number in a field. */
export function hashIncrement(
  space: Space,
  operation: HashIncrementOperation,
  nowMs: number,
): OperationResults["hashIncrement"] {
  const found = find(space, operation.key, nowMs)
  const { sum, applied } = add(operation.key, found?.table.get(operation.name)?.value, operation.addition)
  if (!applied) return { sum, applied, ...stateOf(found?.entry) }
  const value: CacheValue = { content: sum, contentType: "" }
  const { entry } = write(space, found, new Map([[operation.name, value]]), operation, nowMs)
  return { sum, applied, ...stateOf(entry.entry) }
}
