/** Finds the function for an operation. */
import type { Operation, OperationResults, ResultOf } from "../../domain/cache/operations.ts"
import { hashDelete, hashGet, hashIncrement, hashSet } from "./hash-operations.ts"
import { listPop, listPush, listRange, listTrim } from "./list-operations.ts"
import { sortedSetAdd, sortedSetIncrement, sortedSetRange, sortedSetRemove } from "./sorted-set-operations.ts"
import type { Space } from "./space.ts"
import { expire, get, increment, remove, set } from "./value-operations.ts"

type Run<K extends Operation["kind"]> = (
  space: Space,
  operation: Extract<Operation, { kind: K }>,
  nowMs: number,
) => OperationResults[K]

const RUNS: { readonly [K in Operation["kind"]]: Run<K> } = {
  get: (space, { key }, nowMs) => snapshot(space, key, nowMs),
  set,
  delete: remove,
  increment,
  expire,
  hashSet,
  hashGet,
  hashDelete,
  hashIncrement,
  listPush,
  listRange,
  listPop,
  listTrim,
  sortedSetAdd,
  sortedSetRange,
  sortedSetRemove,
  sortedSetIncrement,
}

/** The entry as it is now: answers inside Execute outlive later changes and must not keep the entry's neighbours alive. */
function snapshot(space: Space, key: string, nowMs: number): OperationResults["get"] {
  const entry = get(space, key, nowMs)
  if (entry === undefined) return undefined
  space.core.answer(entry.bytes)
  const { content, contentType, revision, expireTimeMs, tags } = entry
  return { content, contentType, revision, expireTimeMs, tags }
}

/** Runs one operation; it either has its whole effect or raises and has none. */
export function runOperation<O extends Operation>(space: Space, operation: O, nowMs: number): ResultOf<O> {
  // The table pairs each kind with its own function, which the compiler cannot follow through the union.
  const run = RUNS[operation.kind] as (space: Space, operation: Operation, nowMs: number) => unknown
  return run(space, operation, nowMs) as ResultOf<O>
}
