/** Operations on lists. */
import type { CacheValue } from "../../domain/cache/model.ts"
import type {
  ListPopOperation,
  ListPushOperation,
  ListRangeOperation,
  ListTrimOperation,
  OperationResults,
} from "../../domain/cache/operations.ts"
import { valueBytes } from "../../domain/cache/size.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import { commit, make, shrink, stateOf } from "./collections.ts"
import { Deque, type ListItem } from "./deque.ts"
import { type Entry, ITEM_OVERHEAD_BYTES } from "./entry.ts"
import { within } from "./ranges.ts"
import type { Space } from "./space.ts"
import { own, touch } from "./value-operations.ts"

type End = "head" | "tail"

interface Found {
  readonly entry: Entry
  readonly list: Deque
}

function find(space: Space, key: string, nowMs: number): Found | undefined {
  const entry = space.findKind(key, "list", nowMs)
  return entry?.collection instanceof Deque ? { entry, list: entry.collection } : undefined
}

/** Adds values to one end and cuts the other. */
export function listPush(
  space: Space,
  operation: ListPushOperation,
  nowMs: number,
): OperationResults["listPush"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined && operation.onlyIfPresent) return { ...stateOf(undefined), length: 0, dropped: 0 }
  const list = found?.list ?? new Deque()
  const entry = found?.entry ?? make(space, "list", list, operation, nowMs)
  const items = operation.values.map(itemOf)
  const other: End = operation.end === "head" ? "tail" : "head"
  const dropped = Math.max(0, list.size + items.length - maximumLength(space, operation))
  let { bytes } = entry
  for (const item of items) bytes += item.bytes
  for (let index = 0; index < dropped; index++) {
    bytes -= (fromEnd(list, other, index) ?? items[index - list.size])?.bytes ?? 0
  }
  space.core.checkFits(space, bytes)
  for (const item of items) put(space, list, operation.end, item)
  for (let index = 0; index < dropped; index++) take(space, list, other)
  commit(space, entry, found === undefined, bytes, operation, nowMs)
  return { ...stateOf(entry), length: list.size, dropped }
}

function maximumLength(space: Space, operation: ListPushOperation): number {
  const { maximumLength: most } = space.namespace
  return operation.maximumLength === 0 ? most : Math.min(operation.maximumLength, most)
}

function itemOf(value: CacheValue): ListItem {
  return { value: own(value), bytes: ITEM_OVERHEAD_BYTES + valueBytes(value) }
}

/** Reads a range. */
export function listRange(
  space: Space,
  operation: ListRangeOperation,
  nowMs: number,
): OperationResults["listRange"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { ...stateOf(undefined), found: false, values: [], length: 0 }
  const { entry, list } = found
  if (space.namespace.refreshOnRead) touch(space, entry, nowMs)
  const { from, to } = within(operation, list.size)
  const count = to - from + 1
  if (count > operation.maximumItems) throw limitExceeded("range.length", count, operation.maximumItems)
  const values: CacheValue[] = []
  for (let index = from; index <= to; index++) {
    const item = list.at(index)
    if (item === undefined) break
    space.core.answer(item.bytes)
    values.push(item.value)
  }
  return { ...stateOf(entry), found: true, values, length: list.size }
}

/** Takes values from one end. */
export function listPop(
  space: Space,
  operation: ListPopOperation,
  nowMs: number,
): OperationResults["listPop"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { values: [], length: 0 }
  const { entry, list } = found
  const count = Math.min(operation.count, list.size)
  for (let index = 0; index < count; index++) {
    space.core.answer(fromEnd(list, operation.end, index)?.bytes ?? 0)
  }
  const values: CacheValue[] = []
  let { bytes } = entry
  for (let index = 0; index < count; index++) {
    const item = take(space, list, operation.end)
    if (item === undefined) break
    values.push(item.value)
    bytes -= item.bytes
  }
  if (count > 0) shrink(space, entry, bytes, list.size, nowMs)
  return { values, length: list.size }
}

/** Keeps a range. */
export function listTrim(
  space: Space,
  operation: ListTrimOperation,
  nowMs: number,
): OperationResults["listTrim"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { length: 0, dropped: 0 }
  const { entry, list } = found
  const { from, to } = within(operation, list.size)
  const kept = Math.max(0, to - from + 1)
  const dropped = list.size - kept
  if (dropped === 0) return { length: kept, dropped }
  const fromHead = kept === 0 ? 0 : from
  let { bytes } = entry
  for (let index = 0; index < fromHead; index++) bytes -= take(space, list, "head")?.bytes ?? 0
  while (list.size > kept) bytes -= take(space, list, "tail")?.bytes ?? 0
  shrink(space, entry, bytes, kept, nowMs)
  return { length: kept, dropped }
}

function fromEnd(list: Deque, end: End, index: number): ListItem | undefined {
  return list.at(end === "head" ? index : list.size - 1 - index)
}

function put(space: Space, list: Deque, end: End, item: ListItem): void {
  space.core.journal?.note(() => list.pop(end))
  list.push(end, item)
}

function take(space: Space, list: Deque, end: End): ListItem | undefined {
  const item = list.pop(end)
  if (item !== undefined) space.core.journal?.note(() => list.push(end, item))
  return item
}
