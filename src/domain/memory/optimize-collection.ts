/** Index work: on request with progress, and in the background in steps that leave room for calls. */

import { DomainError } from "../kernel/errors.ts"
import { pause } from "../kernel/pause.ts"
import { type CallScope, parseTenantId, systemScope } from "../kernel/scope.ts"
import type { IndexState } from "./model.ts"
import type { MemoryStore } from "./ports.ts"

/** Where an optimisation is. */
export interface OptimizeProgress {
  readonly phase: "ANALYZE" | "INDEX" | "COMPACT" | "DONE"
  readonly done: number
  readonly total: number
  readonly state: IndexState
}

/** Records per step: the longest that other calls wait on an engine with one connection is a fraction of a second. */
const STEP_RECORDS = 32
const SWEEP_RECORDS = 1000

/** Completes (or with `rebuild` makes anew) the index, then reclaims expired records. NOT_FOUND. */
export async function* optimizeCollection(
  store: MemoryStore,
  scope: CallScope,
  collectionId: string,
  rebuild: boolean,
): AsyncGenerator<OptimizeProgress> {
  const collection = await store.getCollection(scope, collectionId)
  const total = await store.count(scope, collection, undefined)
  yield { phase: "ANALYZE", done: total, total, state: collection.indexState }
  if (rebuild) await store.dropIndex(scope, collectionId)
  let state = collection.indexState
  // A collection without an index has all of its records before it; of one with an index it is known at the end only.
  const all = collection.index.kind !== "FLAT" && (rebuild || state === "EXACT")
  let indexed = 0
  for (;;) {
    const step = await store.indexStep(scope, collectionId, STEP_RECORDS, true)
    state = step.state
    indexed += step.moved
    const expected = all ? Math.max(total, indexed) : 0
    yield { phase: "INDEX", done: indexed, total: step.done ? indexed : expected, state }
    // It is for the records that there were when it began: writers that are faster than the index would keep it going for ever.
    // What is left is the background's.
    if (step.done || indexed > total) break
    // Between two steps other work gets its turn, and a cancelled call ends.
    await new Promise((resume) => setImmediate(resume))
    scope.signal.throwIfAborted()
  }
  let swept = 0
  for (;;) {
    const count = await store.sweep(scope, SWEEP_RECORDS)
    swept += count
    yield { phase: "COMPACT", done: swept, total: 0, state }
    if (count < SWEEP_RECORDS) break
  }
  yield { phase: "DONE", done: total, total, state }
}

/**
 * One background run over all tenants: gives every collection that is due its index, step by step, for about `budgetMs`. After
 * each step it rests three times as long as the step took, so that callers keep most of the engine. Call it on a timer, one
 * run at a time; answers how many steps it made.
 */
export async function maintainIndexes(
  store: MemoryStore,
  options: { readonly budgetMs: number; readonly signal: AbortSignal },
): Promise<number> {
  const ends = performance.now() + options.budgetMs
  let steps = 0
  for (const { tenant, id } of await store.indexBacklog(systemScope(undefined, options.signal))) {
    const owner = parseTenantId(tenant)
    if (owner === undefined) continue
    const scope = systemScope(owner, options.signal)
    for (let done = false; !done; ) {
      if (options.signal.aborted || performance.now() >= ends) return steps
      const began = performance.now()
      done = await stepUnlessGone(store, scope, id)
      steps++
      await pause(3 * (performance.now() - began), options.signal)
    }
  }
  return steps
}

async function stepUnlessGone(store: MemoryStore, scope: CallScope, id: string): Promise<boolean> {
  try {
    return (await store.indexStep(scope, id, STEP_RECORDS, false)).done
  } catch (error) {
    if (error instanceof DomainError && error.reason === "NOT_FOUND") return true
    throw error
  }
}
