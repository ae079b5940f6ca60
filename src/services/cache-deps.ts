/** What the parts of CacheService are made of. */
import type { Namespaces } from "../domain/cache/namespaces.ts"
import type { CacheStore, PubSub } from "../domain/cache/ports.ts"
import type { Awaitable } from "../rpc/handler.ts"
import type { MissPolicy } from "./cache-degraded.ts"
import type { Pages } from "./paging.ts"

/** See {@link createCacheService} in ./cache-service. */
export interface CacheServiceDeps {
  readonly store: CacheStore
  readonly pubsub: PubSub
  readonly namespaces: Namespaces
  readonly pages: Pages
  /** Undefined: reads fail while the cache is away. */
  readonly miss?: MissPolicy | undefined
}

/** Applies `next` without making a promise where there is none. */
export function andThen<T, R>(value: Awaitable<T>, next: (value: T) => R): Awaitable<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}
