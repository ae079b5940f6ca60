/** Cache entries that a change in another store has made wrong: absent soon after the change is committed, whatever happens between. */
import type { Namespaces } from "../cache/namespaces.ts"
import type { CacheStore } from "../cache/ports.ts"
import type { JsonValue } from "../kernel/json.ts"
import { type CallScope, scopeWith, type TenantId } from "../kernel/scope.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import type { OutboxHandler } from "./deliver.ts"
import { jsonPayload, type NewOutboxEntry, readJsonPayload } from "./model.ts"

/** The topic of {@link cacheInvalidation}. */
export const CACHE_TOPIC = "cache-invalidate"

/** Stands for all namespaces. It is not a valid name of one. */
export const EVERY_NAMESPACE = "*"

/** The most that a caller can tag an entry with, in bytes. */
const TAG_MAX_BYTES = 128

/**
 * The tag that every change of a control resource invalidates, e.g. `control/config/prompts/greeting`. CacheService promises it to
 * callers. Undefined for an id that is too long for a tag.
 */
export function controlTag(kind: string, id: string): string | undefined {
  const tag = `control/${kind}/${id}`
  return Buffer.byteLength(tag) > TAG_MAX_BYTES ? undefined : tag
}

/** Has every key of the namespace, or of all, that carries one of the tags made absent. Doing that twice does no harm. */
export function cacheInvalidation(
  tenant: TenantId,
  namespace: string,
  tags: readonly string[],
): NewOutboxEntry {
  const payload = jsonPayload([...tags])
  return { topic: CACHE_TOPIC, tenant, key: namespace, opId: uuid7(), payload }
}

/** How changes of control resources reach the cache. */
export interface CacheInvalidations {
  /**
   * Whether the transaction of the change owes it to the outbox. Otherwise the cache is inside this process and dies with it, so that
   * it is enough to tell it after the commit.
   */
  readonly owed: boolean
  /** To be called after the commit. Where the cache is inside this process, what it had is absent on return. */
  committed(tenant: TenantId, tags: readonly string[]): void
}

/** Makes every key of the tenant that carries one of the tags absent, whichever namespace it is in. */
export async function invalidateEverywhere(
  scope: CallScope,
  cache: CacheStore,
  namespaces: Namespaces,
  tags: readonly string[],
): Promise<void> {
  // Only values have tags. Each call is made at once, and a cache inside this process is through with it then.
  const tagged = namespaces.list().filter(({ kind }) => kind === "any" || kind === "value")
  await Promise.all(tagged.map(async (namespace) => cache.invalidateTags(scope, namespace, tags)))
}

/** Applies entries of {@link CACHE_TOPIC}, those of one tenant and namespace in one call. */
export function cacheInvalidationHandler(cache: CacheStore, namespaces: Namespaces): OutboxHandler {
  return async (scope, { entries }) => {
    const spaces = Map.groupBy(entries, ({ tenant, key }) => `${tenant} ${key}`)
    for (const [first, ...others] of spaces.values()) {
      if (first === undefined) continue
      const tags = [...new Set([first, ...others].flatMap(({ payload }) => tagsOf(readJsonPayload(payload))))]
      const own = scopeWith(scope, { tenant: first.tenant })
      if (first.key === EVERY_NAMESPACE) await invalidateEverywhere(own, cache, namespaces, tags)
      else await cache.invalidateTags(own, namespaces.resolve(first.key), tags)
    }
  }
}

function tagsOf(value: JsonValue): readonly string[] {
  if (!Array.isArray(value)) throw new Error("not an invalidation")
  return value.filter((tag) => typeof tag === "string")
}
