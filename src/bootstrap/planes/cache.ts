import type { Config } from "../../config/schema.ts"
import type { NamespacePolicy } from "../../domain/cache/model.ts"
import { Namespaces } from "../../domain/cache/namespaces.ts"
import {
  CACHE_STORE_OPERATIONS,
  type CacheStore,
  PUB_SUB_OPERATIONS,
  RATE_LIMITER_OPERATIONS,
} from "../../domain/cache/ports.ts"
import type { MissPolicy } from "../../services/cache-degraded.ts"
import { createCacheService } from "../../services/cache-service.ts"
import { createRateLimitService } from "../../services/rate-limit-service.ts"
import type { CacheEngines } from "../engines/cache.ts"
import type { Kit, Plane } from "../kit.ts"

const SWEEP_KEYS = 10_000

/** The cache plane, and what flows over several planes use of it. */
export interface CachePlane extends Plane {
  readonly store: CacheStore
  readonly namespaces: Namespaces
}

/** CacheService and RateLimitService over the configured engine. */
export async function cachePlane(kit: Kit): Promise<CachePlane> {
  const handle = kit.handle("cache")
  if (handle?.kind !== "cache") throw new Error("the store cache is served by an engine of another kind")
  const engines = handle.cache
  const store = kit.guard("cache", "entries", engines.store, CACHE_STORE_OPERATIONS)
  const pubsub = kit.guard("cache", "topics", engines.pubsub, PUB_SUB_OPERATIONS)
  const limiter = kit.guard("cache", "limits", engines.limiter, RATE_LIMITER_OPERATIONS)
  const namespaces = new Namespaces(policies(kit.config))
  return {
    store,
    namespaces,
    services: [
      createCacheService({
        store,
        pubsub,
        namespaces,
        pages: kit.pages,
        miss: missPolicy(kit.config, engines),
      }),
      createRateLimitService({ limiter }),
    ],
    needs: ["cache"],
    sweepers: [
      {
        name: "cache",
        intervalMs: 5_000,
        run: async (scope) => bounded(await store.sweep(scope, SWEEP_KEYS)),
      },
      {
        name: "rate-limits",
        intervalMs: 30_000,
        run: async (scope) => bounded(await limiter.sweep(scope, SWEEP_KEYS)),
      },
    ],
    close: async () => {},
  }
}

/** An engine inside this process is always there. */
function missPolicy({ cache }: Config, engines: CacheEngines): MissPolicy | undefined {
  if (cache.on_failure === "error") return undefined
  return { afterMs: engines.usage === undefined ? cache.miss_after_ms : undefined }
}

const bounded = (removed: number) => ({ removed, more: removed >= SWEEP_KEYS })

function policies(config: Config): Readonly<Record<string, NamespacePolicy>> {
  const entries = Object.entries(config.cache.namespaces).map(([name, policy]): [string, NamespacePolicy] => [
    name,
    {
      kind: policy.kind === "sorted_set" ? "sortedSet" : policy.kind,
      refreshOnRead: policy.refresh_on_read,
      refreshOnWrite: policy.refresh_on_write,
      ...(policy.default_ttl_s === 0 ? {} : { defaultTtlMs: policy.default_ttl_s * 1_000 }),
      ...(policy.max_length === undefined ? {} : { maximumLength: policy.max_length }),
      ...(policy.max_entries === undefined ? {} : { capacityEntries: policy.max_entries }),
      ...(policy.max_bytes === undefined ? {} : { capacityBytes: policy.max_bytes }),
    },
  ])
  return Object.fromEntries(entries)
}
