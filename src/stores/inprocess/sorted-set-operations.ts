/** Operations on sorted sets. */
import type {
  OperationResults,
  ScoredMember,
  SortedSetAddOperation,
  SortedSetIncrementOperation,
  SortedSetRangeOperation,
  SortedSetRemoveOperation,
} from "../../domain/cache/operations.ts"
import { overflow } from "./arithmetic.ts"
import { commit, make, shrink, stateOf } from "./collections.ts"
import { type Entry, ITEM_OVERHEAD_BYTES } from "./entry.ts"
import { within } from "./ranges.ts"
import { SortedSet } from "./sorted-set.ts"
import type { Space } from "./space.ts"
import { touch } from "./value-operations.ts"

/** A member's map slot and skip-list node. */
const MEMBER_BYTES = ITEM_OVERHEAD_BYTES + 96

interface Found {
  readonly entry: Entry
  readonly set: SortedSet
}

function find(space: Space, key: string, nowMs: number): Found | undefined {
  const entry = space.findKind(key, "sortedSet", nowMs)
  return entry?.collection instanceof SortedSet ? { entry, set: entry.collection } : undefined
}

/** Adds members or changes scores. */
export function sortedSetAdd(
  space: Space,
  operation: SortedSetAddOperation,
  nowMs: number,
): OperationResults["sortedSetAdd"] {
  const found = find(space, operation.key, nowMs)
  const wanted = new Map<string, number>()
  for (const { member, score } of operation.members) {
    if (takes(operation.condition, found?.set.score(member), score)) wanted.set(member, score)
  }
  if (wanted.size === 0) {
    return { ...stateOf(found?.entry), added: 0, updated: 0, length: found?.set.size ?? 0 }
  }
  const { entry, set, added, updated } = write(space, found, wanted, operation, nowMs)
  return { ...stateOf(entry), added, updated, length: set.size }
}

function takes(
  condition: SortedSetAddOperation["condition"],
  before: number | undefined,
  score: number,
): boolean {
  switch (condition) {
    case "always":
      return true
    case "ifAbsent":
      return before === undefined
    case "ifPresent":
      return before !== undefined
    case "ifGreater":
      return before === undefined || score > before
    case "ifLess":
      return before === undefined || score < before
  }
}

function write(
  space: Space,
  found: Found | undefined,
  wanted: ReadonlyMap<string, number>,
  operation: SortedSetAddOperation | SortedSetIncrementOperation,
  nowMs: number,
): Found & { readonly added: number; readonly updated: number } {
  const set = found?.set ?? new SortedSet()
  const entry = found?.entry ?? make(space, "sortedSet", set, operation, nowMs)
  let { bytes } = entry
  let added = 0
  let updated = 0
  for (const [member, score] of wanted) {
    const before = set.score(member)
    if (before === undefined) {
      added++
      bytes += bytesOf(member)
    } else if (before !== score) updated++
  }
  space.core.checkFits(space, bytes)
  for (const [member, score] of wanted) place(space, set, member, score)
  bytes -= dropLowest(space, set)
  if (added + updated > 0 || operation.refreshTtl || space.namespace.refreshOnWrite) {
    commit(space, entry, found === undefined, bytes, operation, nowMs)
  }
  return { entry, set, added, updated }
}

function bytesOf(member: string): number {
  return MEMBER_BYTES + member.length
}

function place(space: Space, set: SortedSet, member: string, score: number | undefined): void {
  const before = set.score(member)
  if (space.core.journal !== undefined) {
    space.core.journal.note(() => {
      if (before === undefined) set.delete(member)
      else set.set(member, before)
    })
  }
  if (score === undefined) set.delete(member)
  else set.set(member, score)
}

/** Cuts a set to its namespace's length; answers the bytes that went. */
function dropLowest(space: Space, set: SortedSet): number {
  const excess = set.size - space.namespace.maximumLength
  if (excess <= 0) return 0
  const lowest: string[] = []
  set.visit(0, excess - 1, false, (member) => lowest.push(member))
  let bytes = 0
  for (const member of lowest) {
    place(space, set, member, undefined)
    bytes += bytesOf(member)
  }
  return bytes
}

/** Reads a range. */
export function sortedSetRange(
  space: Space,
  operation: SortedSetRangeOperation,
  nowMs: number,
): OperationResults["sortedSetRange"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { ...stateOf(undefined), found: false, members: [], length: 0 }
  const { entry, set } = found
  if (space.namespace.refreshOnRead) touch(space, entry, nowMs)
  const { reverse, offset, limit } = operation
  let { from, to } = ranksOf(set, operation)
  if (reverse) {
    to -= offset
    from = Math.max(from, to - limit + 1)
  } else {
    from += offset
    to = Math.min(to, from + limit - 1)
  }
  const members: (ScoredMember & { readonly rank: number })[] = []
  if (from <= to) {
    set.visit(from, to, reverse, (member, score, rank) => {
      space.core.answer(bytesOf(member))
      members.push({ member, score, rank: reverse ? set.size - 1 - rank : rank })
    })
  }
  return { ...stateOf(entry), found: true, members, length: set.size }
}

/** The range in ascending ranks. */
function ranksOf(set: SortedSet, { by, reverse }: SortedSetRangeOperation): { from: number; to: number } {
  if ("rank" in by) {
    const { from, to } = within(by.rank, set.size)
    return reverse ? { from: set.size - 1 - to, to: set.size - 1 - from } : { from, to }
  }
  const { minimum, maximum, minimumExclusive, maximumExclusive } = by.score
  return {
    from: set.countBelow(minimum, minimumExclusive),
    to: set.countBelow(maximum, !maximumExclusive) - 1,
  }
}

/** Removes members. */
export function sortedSetRemove(
  space: Space,
  operation: SortedSetRemoveOperation,
  nowMs: number,
): OperationResults["sortedSetRemove"] {
  const found = find(space, operation.key, nowMs)
  if (found === undefined) return { removed: 0, length: 0 }
  const { entry, set } = found
  let { bytes } = entry
  let removed = 0
  for (const member of operation.members) {
    if (set.score(member) === undefined) continue
    place(space, set, member, undefined)
    bytes -= bytesOf(member)
    removed++
  }
  if (removed > 0) shrink(space, entry, bytes, set.size, nowMs)
  return { removed, length: set.size }
}

/** Adds to a score. */
export function sortedSetIncrement(
  space: Space,
  operation: SortedSetIncrementOperation,
  nowMs: number,
): OperationResults["sortedSetIncrement"] {
  const { key, member, delta } = operation
  const found = find(space, key, nowMs)
  const score = (found?.set.score(member) ?? 0) + delta
  if (!Number.isFinite(score)) throw overflow(key, "a finite double")
  const { entry, set } = write(space, found, new Map([[member, score]]), operation, nowMs)
  const stayed = set.score(member) !== undefined
  return { ...stateOf(entry), score, rank: stayed ? set.rank(member) : 0 }
}
