/** The in-process engines of the cache plane, as bootstrap takes them. */
import type { CacheStore, PubSub, RateLimiter } from "../../domain/cache/ports.ts"
import type { TenantEraser } from "../../domain/control/erasure.ts"
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
  /** The end of a tenant; see TenantEraser. Channels keep nothing. */
  readonly eraser: TenantEraser
}

/** Makes the engines. They start empty and hold no timers. */
export function createInProcessEngines(options: InProcessOptions = {}): InProcessEngines {
  const clock = options.clock ?? systemClock
  const maxBytes = options.maxBytes ?? 256 * MEBIBYTE
  const maxBytesPerTenant = Math.min(options.maxBytesPerTenant ?? maxBytes, maxBytes)
  const maxKeyBytes = Math.min(16 * MEBIBYTE, maxBytesPerTenant)
  const limits = { maxBytes, maxBytesPerTenant, maxKeyBytes }
  const store = new InProcessCacheStore({ clock, limits, scripts: options.scripts })
  const limiter = new InProcessRateLimiter(clock)
  const eraser: TenantEraser = {
    store: "cache",
    holds: async ({ tenant }) => store.holdsTenant(tenant),
    erase: async ({ tenant }) =>
      [
        { store: "cache", what: "keys", count: store.eraseTenant(tenant) },
        { store: "cache", what: "rate_limits", count: limiter.eraseTenant(tenant) },
      ].filter(({ count }) => count > 0),
  }
  return { store, pubsub: new InProcessPubSub(clock), limiter, eraser }
}
