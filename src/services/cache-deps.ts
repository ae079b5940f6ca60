/** What the parts of CacheService are made of. */
import type { Namespaces } from "../domain/cache/namespaces.ts"
import type { CacheStore, PubSub } from "../domain/cache/ports.ts"
import type { Awaitable } from "../rpc/handler.ts"
import type { Pages } from "./paging.ts"

/** See {@link createCacheService} in ./cache-service. */
export interface CacheServiceDeps {
  readonly store: CacheStore
  readonly pubsub: PubSub
  readonly namespaces: Namespaces
  readonly pages: Pages
}

/** Applies `next` without making a promise where there is none. */
export function andThen<T, R>(value: Awaitable<T>, next: (value: T) => R): Awaitable<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}
