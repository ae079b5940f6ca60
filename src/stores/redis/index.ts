/** The cache plane on Redis 7, Valkey or Dragonfly, as bootstrap takes it. */
import type { CacheCapabilities, CacheStore, PubSub, RateLimiter } from "../../domain/cache/ports.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { RedisCacheStore } from "./cache-store.ts"
import { Connection, makeClient, TIMEOUT_MS } from "./connection.ts"
import { DEFAULT_PREFIX, Keys } from "./keys.ts"
import { Listener } from "./listener.ts"
import { REDIS_PUBSUB_LIMITS, RedisPubSub, type RedisPubSubLimits } from "./pubsub.ts"
import { RedisRateLimiter } from "./rate-limiter.ts"

/** What bootstrap decides. */
export interface RedisOptions {
  /** `redis://` or, with TLS, `rediss://`; user, password and database number as usual. */
  readonly url: string
  /** Lua text by the name that RunScript takes. */
  readonly scripts?: Readonly<Record<string, string>>
  /** What stands before every key. */
  readonly prefix?: string
  /** Longest wait for an answer where no deadline is nearer, in milliseconds. */
  readonly timeoutMs?: number
  readonly pubsubLimits?: RedisPubSubLimits
  /** Stands for the server's clock; for tests. */
  readonly clock?: Clock
  /** Changes every script before it is used; for tests that watch what scripts do. */
  readonly wrapScript?: (text: string) => string
}

/** An open engine: the three ports of the cache plane over two connections, one of them for incoming messages. */
export interface RedisEngine {
  readonly cache: CacheStore
  readonly pubsub: PubSub
  readonly rateLimiter: RateLimiter
  readonly capabilities: CacheCapabilities
  /** Asks the server. Raises STORE_UNAVAILABLE or DEADLINE_EXCEEDED. */
  ping(scope: CallScope): Promise<void>
  /** Whether the connection for calls and the one for messages are up, and how many commands wait for an answer. */
  stats(): { readonly connected: boolean; readonly listening: boolean; readonly waiting: number }
  /** Ends everything. */
  close(): Promise<void>
}

/** Connects. Raises STORE_UNAVAILABLE or STORE_AUTH; a connection that is lost later comes back by itself. */
export async function openRedis(options: RedisOptions): Promise<RedisEngine> {
  const keys = new Keys(options.prefix ?? DEFAULT_PREFIX)
  const wrapScript = options.wrapScript ?? ((text) => text)
  const connection = new Connection(options)
  const pubsub = new RedisPubSub({
    connection,
    makeListener: (events) => {
      const client = makeClient(options, { enableAutoPipelining: false })
      return new Listener(client, events, options.timeoutMs ?? TIMEOUT_MS)
    },
    keys,
    limits: options.pubsubLimits ?? REDIS_PUBSUB_LIMITS,
    wrapScript,
  })
  try {
    await connection.connect()
    await pubsub.connect()
  } catch (error) {
    await pubsub.close()
    connection.close()
    throw error
  }
  const cache = new RedisCacheStore({ connection, keys, scripts: options.scripts ?? {}, wrapScript })
  const rateLimiter = new RedisRateLimiter(connection, keys, wrapScript)
  return {
    cache,
    pubsub,
    rateLimiter,
    capabilities: cache.capabilities,
    ping: async (scope) => {
      await connection.send(scope, "read", "PING", [])
    },
    stats: () => ({
      connected: connection.isReady,
      listening: pubsub.isListening,
      waiting: connection.waiting,
    }),
    close: async () => {
      await Promise.all([cache.close(), pubsub.close(), rateLimiter.close()])
      connection.close()
    },
  }
}
