/** The in-process engines of the cache plane, as bootstrap takes them. */
import type { CacheStore, PubSub, RateLimiter } from "../../domain/cache/ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { InProcessCacheStore } from "./cache-store.ts"
import { InProcessPubSub } from "./pubsub.ts"
import { InProcessRateLimiter } from "./rate-limiter.ts"
import type { ScriptRunner } from "./scripts.ts"

const MEBIBYTE = 1_048_576

/** What bootstrap may decide; everything has a default. */
export interface InProcessOptions {
  readonly clock?: Clock
  /** All keys of all tenants, in bytes; at least 32 MiB. */
  readonly maxBytes?: number
  /** All keys of one tenant, in bytes; not more than maxBytes. */
  readonly maxBytesPerTenant?: number
  /** Runs scripts; without one RunScript is refused. */
  readonly scripts?: ScriptRunner
}

/** The three ports of the cache plane. */
export interface InProcessEngines {
  readonly store: CacheStore & Pick<InProcessCacheStore, "usage">
  readonly pubsub: PubSub
  readonly limiter: RateLimiter
}

/** Makes the engines. They start empty and hold no timers. */
export function createInProcessEngines(options: InProcessOptions = {}): InProcessEngines {
  const clock = options.clock ?? systemClock
  const maxBytes = options.maxBytes ?? 256 * MEBIBYTE
  const maxBytesPerTenant = Math.min(options.maxBytesPerTenant ?? maxBytes, maxBytes)
  const maxKeyBytes = Math.min(16 * MEBIBYTE, maxBytesPerTenant)
  const limits = { maxBytes, maxBytesPerTenant, maxKeyBytes }
  return {
    store: new InProcessCacheStore({ clock, limits, scripts: options.scripts }),
    pubsub: new InProcessPubSub(clock),
    limiter: new InProcessRateLimiter(clock),
  }
}
