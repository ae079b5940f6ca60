/** Collections as they were seen last, so that a search need not wait for one before it begins. */
import type { TenantId } from "../kernel/scope.ts"
import type { Collection } from "./model.ts"

const MOST = 1_000

/** The collections that were found or found changed last. What it says may be out of date: see {@link MemoryStore.searchKnown}. */
export class KnownCollections {
  readonly #collections = new Map<string, Collection>()

  /** The collection when it was seen last. */
  find(tenant: TenantId, id: string): Collection | undefined {
    return this.#collections.get(keyOf(tenant, id))
  }

  /** Takes a collection as it is now. */
  see(tenant: TenantId, collection: Collection): void {
    const key = keyOf(tenant, collection.id)
    if (this.#collections.get(key) === collection) return
    this.#collections.delete(key)
    this.#collections.set(key, collection)
    const { value: oldest } = this.#collections.keys().next()
    if (oldest !== undefined && this.#collections.size > MOST) this.#collections.delete(oldest)
  }
}

function keyOf(tenant: TenantId, id: string): string {
  return `${tenant.length}:${tenant}${id}`
}

/** What of a collection decides how it is searched: any change of it is a new revision, but for those of its index. */
export type SearchedState = Pick<Collection, "ref" | "revision" | "indexState">

/** Whether a search would be the same for both. */
export function isSameToSearch(one: SearchedState, other: SearchedState): boolean {
  return one.ref === other.ref && one.revision === other.revision && one.indexState === other.indexState
}
