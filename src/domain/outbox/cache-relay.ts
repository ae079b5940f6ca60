/** Cache entries that a change in another store has made wrong: absent soon after the change is committed, whatever happens between. */
import { v7 as uuidv7 } from "uuid"
import type { Namespaces } from "../cache/namespaces.ts"
import type { CacheStore } from "../cache/ports.ts"
import type { JsonValue } from "../kernel/json.ts"
import { scopeWith, type TenantId } from "../kernel/scope.ts"
import type { OutboxHandler } from "./deliver.ts"
import { jsonPayload, type NewOutboxEntry, readJsonPayload } from "./model.ts"

/** The topic of {@link cacheInvalidation}. */
export const CACHE_TOPIC = "cache-invalidate"

/** Has every key of the namespace that carries one of the tags made absent. Doing that twice does no harm. */
export function cacheInvalidation(
  tenant: TenantId,
  namespace: string,
  tags: readonly string[],
): NewOutboxEntry {
  const payload = jsonPayload([...tags])
  return { topic: CACHE_TOPIC, tenant, key: namespace, opId: uuidv7(), payload }
}

/** Applies entries of {@link CACHE_TOPIC}, those of one tenant and namespace in one call. */
export function cacheInvalidationHandler(cache: CacheStore, namespaces: Namespaces): OutboxHandler {
  return async (scope, { entries }) => {
    const spaces = Map.groupBy(entries, ({ tenant, key }) => `${tenant} ${key}`)
    for (const [first, ...others] of spaces.values()) {
      if (first === undefined) continue
      const tags = new Set([first, ...others].flatMap(({ payload }) => tagsOf(readJsonPayload(payload))))
      const namespace = namespaces.resolve(first.key)
      await cache.invalidateTags(scopeWith(scope, { tenant: first.tenant }), namespace, [...tags])
    }
  }
}

function tagsOf(value: JsonValue): readonly string[] {
  if (!Array.isArray(value)) throw new Error("not an invalidation")
  return value.filter((tag) => typeof tag === "string")
}
