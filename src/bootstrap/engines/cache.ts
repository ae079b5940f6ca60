/** The cache plane's engine: in this thread, or on a server that the configuration names. */
import { readFile } from "node:fs/promises"
import type { Config } from "../../config/schema.ts"
import type { CacheStore, PubSub, RateLimiter } from "../../domain/cache/ports.ts"
import { BUILT_IN_SCRIPTS } from "../../domain/cache/scripts.ts"
import { systemClock } from "../../domain/kernel/clock.ts"
import { scopeWith, systemScope } from "../../domain/kernel/scope.ts"
import { capabilityTexts, type OpenEngine } from "./engine.ts"

const VERIFY_MS = 5_000

/** The three ports of the plane. */
export interface CacheEngines {
  readonly store: CacheStore
  readonly pubsub: PubSub
  readonly limiter: RateLimiter
  /** What its keys weigh, where it is inside this process. */
  usage?(): { readonly bytes: number; readonly entries: number }
}

/** Opens the engine of the store `cache`. */
export async function openCache(config: Config): Promise<OpenEngine> {
  const scripts = { ...BUILT_IN_SCRIPTS, ...(await sources(config)) }
  const { url } = config.stores.cache
  const common = { name: "cache", stores: ["cache"], place: String(url) } as const
  // Imported here, so that a daemon on a server never loads WebAssembly and an embedded one never loads the driver.
  if (url.reveal() === "embedded") return { ...common, ...(await openInThread(config, scripts)) }
  const { openRedis } = await import("../../stores/redis/index.ts")
  const { password_file: passwordFile } = config.stores.cache
  const redis = await openRedis({ url: url.reveal(), passwordFile, scripts })
  const { engine } = redis.capabilities
  return {
    ...common,
    inThread: false,
    handle: {
      kind: "cache",
      cache: { store: redis.cache, pubsub: redis.pubsub, limiter: redis.rateLimiter },
    },
    describe: () => ({ engine, capabilities: capabilityTexts(redis.capabilities) }),
    ping: redis.ping,
    pool: () => redis.stats(),
    eraser: redis.eraser("cache"),
    verify: () => redis.ping(scopeWith(systemScope(), { deadlineMs: Date.now() + VERIFY_MS })),
    close: redis.close,
  }
}

async function openInThread(config: Config, scripts: Readonly<Record<string, string>>) {
  const { createInProcessEngines } = await import("../../stores/inprocess/index.ts")
  const { LuaScripts } = await import("../../stores/inprocess/lua-scripts.ts")
  const { store, pubsub, limiter, eraser } = createInProcessEngines({
    clock: systemClock,
    maxBytes: config.cache.max_bytes,
    scripts: new LuaScripts(scripts),
  })
  return {
    inThread: true,
    handle: { kind: "cache", cache: { store, pubsub, limiter, usage: () => store.usage() } },
    describe: () => ({
      engine: store.capabilities.engine,
      capabilities: capabilityTexts(store.capabilities),
    }),
    ping: async () => {},
    eraser,
    close: async () => {
      await Promise.all([store.close(), pubsub.close(), limiter.close()])
    },
  } as const
}

/** The configured scripts' texts; a file that is gone since the configuration was checked stops the start. */
async function sources(config: Config): Promise<Readonly<Record<string, string>>> {
  const entries = Object.entries(config.cache.scripts)
  return Object.fromEntries(
    await Promise.all(entries.map(async ([name, file]) => [name, await readFile(file, "utf8")] as const)),
  )
}
