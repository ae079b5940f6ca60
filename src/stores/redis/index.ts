/** The cache plane on Redis 7, Valkey or Dragonfly, as bootstrap takes it. */
import type { CacheCapabilities, CacheStore, PubSub, RateLimiter } from "../../domain/cache/ports.ts"
import type { TenantEraser } from "../../domain/control/erasure.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { RedisCacheStore } from "./cache-store.ts"
import { type ClientSettings, makeClient } from "./client.ts"
import { Connection, TIMEOUT_MS } from "./connection.ts"
import { DEFAULT_PREFIX, Keys } from "./keys.ts"
import { Listener, type ListenerEvents } from "./listener.ts"
import { REDIS_PUBSUB_LIMITS, RedisPubSub, type RedisPubSubLimits } from "./pubsub.ts"
import { RedisRateLimiter } from "./rate-limiter.ts"
import { createRedisTenantEraser } from "./tenant-eraser.ts"

/** What bootstrap decides. */
export interface RedisOptions {
  /** One of the forms of ./address: `redis://`, `redis+cluster://`, `redis+sentinel://`, with TLS `rediss`. */
  readonly url: string
  /** File with the password, read at each new connection; goes before the URL's own. */
  readonly passwordFile?: string | undefined
  /** How many connections to each server carry calls. */
  readonly connections?: number | undefined
  /** Lua text by the name that RunScript takes. */
  readonly scripts?: Readonly<Record<string, string>>
  /** What stands before every key. */
  readonly prefix?: string
  /** Longest wait for an answer where no deadline is nearer, in milliseconds. */
  readonly timeoutMs?: number | undefined
  /** Longest wait for the first connection; after it the engine is there all the same, and heals by itself. */
  readonly openMs?: number | undefined
  readonly pubsubLimits?: RedisPubSubLimits
  /** Stands for the server's clock; for tests. */
  readonly clock?: Clock
  /** Changes every script before it is used; for tests that watch what scripts do. */
  readonly wrapScript?: (text: string) => string
}

/** What is known about the connections. */
export interface RedisStats {
  /** Whether any server takes calls, and whether messages come in. */
  readonly connected: boolean
  readonly listening: boolean
  /** Connections that are up: those with something to do, and the others. */
  readonly inUse: number
  readonly idle: number
  /** Commands without an answer yet. */
  readonly waiting: number
}

/** An open engine: the three ports of the cache plane. */
export interface RedisEngine {
  readonly cache: CacheStore
  readonly pubsub: PubSub
  readonly rateLimiter: RateLimiter
  readonly capabilities: CacheCapabilities
  /** Asks a server. Raises STORE_UNAVAILABLE, STORE_AUTH or DEADLINE_EXCEEDED. */
  ping(scope: CallScope): Promise<void>
  stats(): RedisStats
  /** For the end of a tenant; `store` names the engine in certificates. */
  eraser(store: string): TenantEraser
  /** Ends everything. */
  close(): Promise<void>
}

const OPEN_MS = 2_000

/**
 * Connects, or goes on trying: a server that is away or refuses the credentials is told by {@link RedisEngine.ping} and by the
 * calls. Raises TypeError for a URL that is none.
 */
export async function openRedis(options: RedisOptions): Promise<RedisEngine> {
  const connection = new Connection(options)
  const { address, nodes } = connection
  const keys = new Keys(options.prefix ?? DEFAULT_PREFIX, address.kind === "cluster")
  const wrapScript = options.wrapScript ?? ((text) => text)
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS
  const pubsub = new RedisPubSub({
    connection,
    makeListener: (events) =>
      makeListener(connection, events, { timeoutMs, passwordFile: options.passwordFile }),
    keys,
    limits: options.pubsubLimits ?? REDIS_PUBSUB_LIMITS,
    wrapScript,
  })
  const cache = new RedisCacheStore({ connection, keys, scripts: options.scripts ?? {}, wrapScript })
  const rateLimiter = new RedisRateLimiter(connection, keys, wrapScript)
  const openMs = options.openMs ?? OPEN_MS
  await Promise.all([nodes.settled(openMs), pubsub.settled(openMs)])
  return {
    cache,
    pubsub,
    rateLimiter,
    capabilities: cache.capabilities,
    ping: async (scope) => {
      await connection.send(scope, "read", "PING", [])
    },
    stats: () => {
      const { waiting } = connection
      const listening = pubsub.isListening
      const open = nodes.open
      const busy = Math.min(open, waiting)
      return {
        connected: connection.isReady,
        listening,
        inUse: busy + Number(listening),
        idle: open - busy,
        waiting,
      }
    },
    eraser: (store) => createRedisTenantEraser({ connection, keys, spaces: cache.spaces }, store),
    close: async () => {
      await Promise.all([cache.close(), pubsub.close(), rateLimiter.close()])
      connection.close()
    },
  }
}

/** In a cluster messages reach every node, so that the listener may be at any. */
function makeListener(
  { address, nodes }: Connection,
  events: ListenerEvents,
  settings: ClientSettings,
): Listener {
  if (address.kind !== "cluster") {
    return new Listener(makeClient(address, settings), events, settings.timeoutMs, () => false)
  }
  let at = address.endpoints[0]
  const client = makeClient(address, settings, () => {
    at = nodes.next()
    return at
  })
  return new Listener(client, events, settings.timeoutMs, () => at !== undefined && !nodes.has(at))
}
