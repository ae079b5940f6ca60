/** The cache plane's engine: in this thread, or on a server that the configuration names. */
import { readFile } from "node:fs/promises"
import type { Config } from "../config/schema.ts"
import type { CacheStore, PubSub, RateLimiter } from "../domain/cache/ports.ts"
import type { Clock } from "../domain/kernel/clock.ts"
import type { CallScope } from "../domain/kernel/scope.ts"

/** The three ports of the plane. */
export interface CacheEngines {
  readonly store: CacheStore
  readonly pubsub: PubSub
  readonly limiter: RateLimiter
  /** Resolves when the engine answers. */
  ping(scope: CallScope): Promise<void>
  /** What its keys weigh, where it is inside this process. */
  usage?(): { readonly bytes: number; readonly entries: number }
  close(): Promise<void>
}

/** Opens the engine. `scripts` is Lua text by name. */
export async function openCacheEngines(
  config: Config,
  clock: Clock,
  scripts: Readonly<Record<string, string>>,
): Promise<CacheEngines> {
  // Imported here, so that a daemon on a server never loads WebAssembly and an embedded one never loads the driver.
  if (config.stores.cache.url.reveal() === "embedded") {
    const { createInProcessEngines } = await import("../stores/inprocess/index.ts")
    const { LuaScripts } = await import("../stores/inprocess/lua-scripts.ts")
    const engines = createInProcessEngines({
      clock,
      maxBytes: config.cache.max_bytes,
      scripts: new LuaScripts(scripts),
    })
    const close = async () => {
      await Promise.all([engines.store.close(), engines.pubsub.close(), engines.limiter.close()])
    }
    return { ...engines, ping: async () => {}, usage: () => engines.store.usage(), close }
  }
  const { openRedis } = await import("../stores/redis/index.ts")
  const engine = await openRedis({ url: await cacheUrl(config), scripts }).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`stores.cache.url: ${config.stores.cache.url}: ${why}`, { cause })
  })
  const { pubsub, rateLimiter, ping, close } = engine
  return { store: engine.cache, pubsub, limiter: rateLimiter, ping, close }
}

async function cacheUrl({ stores }: Config): Promise<string> {
  const { url, password_file } = stores.cache
  if (password_file === undefined) return url.reveal()
  const complete = new URL(url.reveal())
  complete.password = encodeURIComponent((await readFile(password_file, "utf8")).trim())
  return complete.toString()
}
