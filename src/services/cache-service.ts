/** CacheService: message to domain and back. Handlers of one operation are here, the others in the files it imports. */
import type { Namespaces } from "../domain/cache/namespaces.ts"
import type { ReadOperation, ResultOf, WriteOperation } from "../domain/cache/operations.ts"
import { CacheService } from "../gen/keelplane/v1/cache_service_pb.ts"
import { type Awaitable, type CallContext, type Service, service } from "../rpc/handler.ts"
import { answers, fromGet } from "./cache-answers.ts"
import { orMiss } from "./cache-degraded.ts"
import { andThen, type CacheServiceDeps } from "./cache-deps.ts"
import { cacheExecution } from "./cache-execution.ts"
import { cacheMaintenance } from "./cache-maintenance.ts"
import * as requests from "./cache-requests.ts"
import { cacheTopics } from "./cache-topics.ts"

/** Makes the service. */
export function createCacheService(deps: CacheServiceDeps): Service {
  const { store, namespaces, miss } = deps
  return service(CacheService, {
    // The hot path: no operation object and no promise in between.
    get(request, ctx) {
      const namespace = namespaces.resolveFor(request.namespace, "value")
      return orMiss(miss, ctx, (scope) => andThen(store.get(scope, namespace, request.key), fromGet), missed)
    },
    set: writer(deps, requests.toSet, answers.set),
    delete: writer(deps, requests.toDelete, answers.delete),
    increment: writer(deps, requests.toIncrement, answers.increment),
    expire: writer(deps, requests.toExpire, answers.expire),
    hashSet: writer(deps, requests.toHashSet, answers.hashSet),
    hashGet: reader(deps, requests.toHashGet, answers.hashGet),
    hashDelete: writer(deps, requests.toHashDelete, answers.hashDelete),
    hashIncrement: writer(deps, requests.toHashIncrement, answers.hashIncrement),
    listPush: writer(deps, requests.toListPush, answers.listPush),
    listRange: reader(deps, requests.toListRange, answers.listRange),
    listPop: writer(deps, requests.toListPop, answers.listPop),
    listTrim: writer(deps, requests.toListTrim, answers.listTrim),
    sortedSetAdd: writer(deps, requests.toSortedSetAdd, answers.sortedSetAdd),
    sortedSetRange: reader(deps, requests.toSortedSetRange, answers.sortedSetRange),
    sortedSetRemove: writer(deps, requests.toSortedSetRemove, answers.sortedSetRemove),
    sortedSetIncrement: writer(deps, requests.toSortedSetIncrement, answers.sortedSetIncrement),
    ...cacheExecution(deps),
    ...cacheMaintenance(deps),
    ...cacheTopics(deps),
  })
}

function writer<Request, O extends WriteOperation, Answer>(
  { store, namespaces }: CacheServiceDeps,
  make: (namespaces: Namespaces, request: Request) => O,
  answer: (result: ResultOf<O>) => Answer,
): (request: Request, ctx: CallContext) => Awaitable<Answer> {
  return (request, ctx) => andThen(store.write(ctx, make(namespaces, request)), answer)
}

function reader<Request, O extends ReadOperation, Answer>(
  { store, namespaces, miss }: CacheServiceDeps,
  make: (namespaces: Namespaces, request: Request) => O,
  answer: (result: ResultOf<O>) => Answer,
): (request: Request, ctx: CallContext) => Awaitable<Answer | typeof MISSED> {
  return (request, ctx) => {
    const operation = make(namespaces, request)
    return orMiss<Answer | typeof MISSED>(
      miss,
      ctx,
      (scope) => andThen(store.read(scope, operation), answer),
      missed,
    )
  }
}

/** What all answers of reads say where the cache is away. */
const MISSED = { found: false, degraded: true } as const
const missed = () => MISSED
