/** The RPCs of CacheService over whole namespaces: listing and invalidation. */
import { durationFromMs } from "@bufbuild/protobuf/wkt"
import type { Namespace } from "../domain/cache/model.ts"
import type * as pb from "../gen/keelplane/v1/cache_service_pb.ts"
import type { CallContext } from "../rpc/handler.ts"
import { fromKind } from "./cache-answers.ts"
import { andThen, type CacheServiceDeps } from "./cache-deps.ts"
import { toTimestamp } from "./cache-values.ts"

const PAGE = { defaultSize: 100, maxSize: 1_000 }

/** The handlers. */
export function cacheMaintenance({ store, namespaces, pages }: CacheServiceDeps) {
  return {
    listKeys(request: pb.ListKeysRequest, ctx: CallContext) {
      const namespace = namespaces.resolve(request.namespace)
      const page = pages.request(ctx, request, PAGE)
      return andThen(store.listKeys(ctx, namespace, request.prefix, page), ({ items, next }) => ({
        keys: items.map(({ key, kind, revision, expireTimeMs, bytes }) => ({
          key,
          kind: fromKind(kind),
          revision,
          expireTime: toTimestamp(expireTimeMs),
          sizeBytes: BigInt(bytes),
        })),
        nextPageToken: pages.token(ctx, request, next),
      }))
    },
    listNamespaces(request: pb.ListNamespacesRequest, ctx: CallContext) {
      const { size, cursor } = pages.request(ctx, request, PAGE)
      const after = cursor?.[0] ?? ""
      const rest = namespaces.list().filter(({ name }) => name > after)
      const items = rest.slice(0, size)
      const last = items.at(-1)
      const next = rest.length > size && last !== undefined ? [last.name] : undefined
      return { namespaces: items.map(toNamespaceMessage), nextPageToken: pages.token(ctx, request, next) }
    },
    invalidateTags(request: pb.InvalidateTagsRequest, ctx: CallContext) {
      const namespace = namespaces.resolve(request.namespace)
      return andThen(store.invalidateTags(ctx, namespace, request.tags), () => ({}))
    },
    invalidatePattern(request: pb.InvalidatePatternRequest, ctx: CallContext) {
      const namespace = namespaces.resolve(request.namespace)
      return andThen(store.invalidatePattern(ctx, namespace, request.pattern), toDeleted)
    },
    clearNamespace(request: pb.ClearNamespaceRequest, ctx: CallContext) {
      return andThen(store.clearNamespace(ctx, namespaces.resolve(request.namespace)), toDeleted)
    },
  }
}

function toDeleted(deleted: number) {
  return { deleted: BigInt(deleted) }
}

function toNamespaceMessage(namespace: Namespace) {
  return {
    name: namespace.name,
    kind: fromKind(namespace.kind),
    defaultTtl: Number.isFinite(namespace.defaultTtlMs) ? durationFromMs(namespace.defaultTtlMs) : undefined,
    maximumLength: namespace.maximumLength,
    capacityEntries: finiteOrZero(namespace.capacityEntries),
    capacityBytes: finiteOrZero(namespace.capacityBytes),
    refreshOnRead: namespace.refreshOnRead,
    refreshOnWrite: namespace.refreshOnWrite,
  }
}

function finiteOrZero(value: number): bigint {
  return Number.isFinite(value) ? BigInt(value) : 0n
}
