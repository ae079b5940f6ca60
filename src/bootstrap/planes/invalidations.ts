/** How changes of control resources reach the cache, by where that is. */
import { systemScope } from "../../domain/kernel/scope.ts"
import {
  CACHE_TOPIC,
  type CacheInvalidations,
  cacheInvalidationHandler,
  invalidateEverywhere,
} from "../../domain/outbox/cache-relay.ts"
import type { Kit } from "../kit.ts"
import type { CachePlane } from "./cache.ts"

/** Whoever adds an entry wakes his own relay; this is for those of daemons that died. */
const POLL_MS = [1_000, 5_000] as const
/** Where nothing is owed, a look finds what another configuration has left behind. */
const LEFTOVERS_POLL_MS = [60_000, 120_000] as const

/** Serves the topic, and tells those who change something how. */
export function cacheInvalidations(
  { handle, outbox, logger }: Kit,
  { store, namespaces }: Pick<CachePlane, "store" | "namespaces">,
): CacheInvalidations {
  const engine = handle("cache")
  const inside = engine?.kind === "cache" && engine.cache.usage !== undefined
  const { serve, signals } = outbox("control")
  serve({
    topic: CACHE_TOPIC,
    handle: cacheInvalidationHandler(store, namespaces),
    pollMs: inside ? LEFTOVERS_POLL_MS : POLL_MS,
  })
  if (!inside) return { owed: true, committed: () => signals.committed(CACHE_TOPIC) }
  return {
    owed: false,
    committed: (tenant, tags) => {
      invalidateEverywhere(systemScope(tenant), store, namespaces, tags).catch((err: unknown) =>
        logger.error({ tenant, err }, "the cache could not be told of a change"),
      )
    },
  }
}
