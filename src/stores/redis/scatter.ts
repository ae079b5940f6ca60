/**
 * Work over several parts of a namespace, or several namespaces, which nothing makes atomic: each part is done by itself, all at the same
 * time, and the answers come in the order of what was asked for.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import { outcomeUnknown } from "./errors.ts"

/** Items of one part, and where each stood. */
interface Part<T> {
  readonly items: T[]
  readonly indexes: number[]
}

/** How one part ended. */
export type Ending<R> =
  | { readonly ok: true; readonly results: readonly R[] }
  | { readonly ok: false; readonly error: unknown }

/**
 * Does `work` on the items of each part; `partOf` names an item's. A part that fails gives each of its items what `failed` makes of it.
 * Raises where all parts failed, or `failed` raises.
 */
export async function scatter<T, R>(
  items: readonly T[],
  partOf: (item: T) => string | number,
  work: (items: readonly T[]) => Promise<readonly R[]>,
  failed: (error: unknown) => R,
): Promise<readonly R[]> {
  const parts = partsOf(items, partOf)
  const [only] = parts
  if (only === undefined) return []
  if (parts.length === 1) return await work(items)
  const endings = await Promise.all(parts.map(async ({ items: own }) => await endingOf(work(own))))
  const [first] = endings
  if (first?.ok === false && endings.every(({ ok }) => !ok)) throw first.error
  const results = new Array<R>(items.length)
  for (const [at, ending] of endings.entries()) {
    const indexes = parts[at]?.indexes ?? []
    for (const [each, index] of indexes.entries()) {
      results[index] = ending.ok ? (ending.results[each] as R) : failed(ending.error)
    }
  }
  return results
}

/** Waits for all changes. Raises the failure of one, as OUTCOME_UNKNOWN where others were made. */
export async function allChanges<R>(changes: readonly Promise<R>[]): Promise<readonly R[]> {
  const endings = await Promise.allSettled(changes)
  const refused = endings.find((ending) => ending.status === "rejected")
  if (refused === undefined) return await Promise.all(changes)
  const { reason } = refused
  const partly = endings.some((ending) => ending.status === "fulfilled")
  throw partly ? afterOthers(reason) : reason
}

/** The failure of a part after others were changed: that nothing was applied holds for this part only. */
export function afterOthers(error: unknown): unknown {
  const saysNothing = error instanceof DomainError && error.reason !== "REQUEST_ID_REUSED"
  return saysNothing ? outcomeUnknown(error) : error
}

async function endingOf<R>(work: Promise<readonly R[]>): Promise<Ending<R>> {
  try {
    return { ok: true, results: await work }
  } catch (error) {
    return { ok: false, error }
  }
}

function partsOf<T>(items: readonly T[], partOf: (item: T) => string | number): readonly Part<T>[] {
  const parts = new Map<string | number, Part<T>>()
  for (const [index, item] of items.entries()) {
    const name = partOf(item)
    const part = parts.get(name) ?? { items: [], indexes: [] }
    part.items.push(item)
    part.indexes.push(index)
    parts.set(name, part)
  }
  return [...parts.values()]
}
