/** Requests of CacheService as operations of the domain. */

import type { Namespaces } from "../domain/cache/namespaces.ts"
import type { Addition, IndexRange, Operation, ScoreBounds } from "../domain/cache/operations.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import type * as pb from "../gen/keelplane/v1/cache_service_pb.ts"
import { ListEnd, SetCondition, SortedSetCondition } from "../gen/keelplane/v1/cache_service_pb.ts"
import { expirationOf, readValue } from "./cache-values.ts"

const LIST_RANGE_MAXIMUM = 1_000
const SORTED_SET_RANGE_DEFAULT = 100
const SORTED_SET_RANGE_MAXIMUM = 1_000

type Make<Request, Kind extends Operation["kind"]> = (
  namespaces: Namespaces,
  request: Request,
) => Extract<Operation, { kind: Kind }>

/** See {@link Operation}. */
export const toGet: Make<pb.CacheServiceGetRequest, "get"> = (namespaces, { namespace, key }) => ({
  kind: "get",
  namespace: namespaces.resolveFor(namespace, "value"),
  key: keyOf(key),
})

/** See {@link Operation}. */
export const toSet: Make<pb.CacheServiceSetRequest, "set"> = (namespaces, request) =>
  toSetOf(namespaces, request.namespace, request, request.ifRevisionMatch)

/** A Set, or one item of BatchSet, whose place is `path`. */
export function toSetOf(
  namespaces: Namespaces,
  namespace: string,
  item: pb.CacheBatchSetItem | pb.CacheServiceSetRequest,
  ifRevision: bigint | undefined,
  path = "",
): Extract<Operation, { kind: "set" }> {
  const { content, contentType } = readValue(item, path)
  return {
    kind: "set",
    namespace: namespaces.resolveFor(namespace, "value"),
    key: keyOf(item.key, `${path}key`),
    content,
    contentType,
    expiration: expirationOf(item.expiration),
    keepExpiration: item.keepExpiration,
    condition: setCondition(item.condition),
    ifRevision,
    tags: item.tags,
  }
}

/** See {@link Operation}. */
export const toDelete: Make<pb.CacheServiceDeleteRequest, "delete"> = (namespaces, request) => ({
  kind: "delete",
  namespace: namespaces.resolve(request.namespace),
  key: keyOf(request.key),
  ifRevision: request.ifRevisionMatch,
})

/** See {@link Operation}. */
export const toIncrement: Make<pb.CacheServiceIncrementRequest, "increment"> = (namespaces, request) => ({
  kind: "increment",
  namespace: namespaces.resolveFor(request.namespace, "value"),
  key: keyOf(request.key),
  addition: additionOf(request.delta),
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** See {@link Operation}. */
export const toExpire: Make<pb.CacheServiceExpireRequest, "expire"> = (namespaces, request) => {
  const expiration = expirationOf(request.expiration)
  if (expiration === undefined) {
    throw invalidField("expiration", "is missing: set expire_time, ttl or no_expiry")
  }
  return {
    kind: "expire",
    namespace: namespaces.resolve(request.namespace),
    key: keyOf(request.key),
    expiration,
    ifRevision: request.ifRevisionMatch,
  }
}

/** See {@link Operation}. */
export const toHashSet: Make<pb.HashSetRequest, "hashSet"> = (namespaces, request) => ({
  kind: "hashSet",
  namespace: namespaces.resolveFor(request.namespace, "hash"),
  key: keyOf(request.key),
  fields: request.fields.map(({ name, value }, index) => ({
    name: keyOf(name, `fields[${index}].name`),
    value: valueIn(value, `fields[${index}].value`),
  })),
  onlyIfAbsent: request.onlyIfAbsent,
  ifRevision: request.ifRevisionMatch,
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** See {@link Operation}. */
export const toHashGet: Make<pb.HashGetRequest, "hashGet"> = (namespaces, { namespace, key, names }) => ({
  kind: "hashGet",
  namespace: namespaces.resolveFor(namespace, "hash"),
  key: keyOf(key),
  names,
})

/** See {@link Operation}. */
export const toHashDelete: Make<pb.HashDeleteRequest, "hashDelete"> = (namespaces, request) => ({
  kind: "hashDelete",
  namespace: namespaces.resolveFor(request.namespace, "hash"),
  key: keyOf(request.key),
  names: request.names,
})

/** See {@link Operation}. */
export const toHashIncrement: Make<pb.HashIncrementRequest, "hashIncrement"> = (namespaces, request) => ({
  kind: "hashIncrement",
  namespace: namespaces.resolveFor(request.namespace, "hash"),
  key: keyOf(request.key),
  name: keyOf(request.name, "name"),
  addition: additionOf(request.delta),
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** See {@link Operation}. */
export const toListPush: Make<pb.ListPushRequest, "listPush"> = (namespaces, request) => ({
  kind: "listPush",
  namespace: namespaces.resolveFor(request.namespace, "list"),
  key: keyOf(request.key),
  end: endOf(request.end),
  values: request.values.map((value, index) => readValue(value, `values[${index}].`)),
  maximumLength: request.maximumLength,
  onlyIfPresent: request.onlyIfPresent,
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** See {@link Operation}. */
export const toListRange: Make<pb.ListRangeRequest, "listRange"> = (namespaces, request) => ({
  kind: "listRange",
  namespace: namespaces.resolveFor(request.namespace, "list"),
  key: keyOf(request.key),
  ...rangeOf(request),
  maximumItems: LIST_RANGE_MAXIMUM,
})

/** See {@link Operation}. */
export const toListPop: Make<pb.ListPopRequest, "listPop"> = (namespaces, request) => ({
  kind: "listPop",
  namespace: namespaces.resolveFor(request.namespace, "list"),
  key: keyOf(request.key),
  end: endOf(request.end),
  count: request.count === 0 ? 1 : request.count,
})

/** See {@link Operation}. */
export const toListTrim: Make<pb.ListTrimRequest, "listTrim"> = (namespaces, request) => ({
  kind: "listTrim",
  namespace: namespaces.resolveFor(request.namespace, "list"),
  key: keyOf(request.key),
  ...rangeOf(request),
})

/** See {@link Operation}. */
export const toSortedSetAdd: Make<pb.SortedSetAddRequest, "sortedSetAdd"> = (namespaces, request) => ({
  kind: "sortedSetAdd",
  namespace: namespaces.resolveFor(request.namespace, "sortedSet"),
  key: keyOf(request.key),
  members: request.members.map(({ member, score }, index) => ({
    member: keyOf(member, `members[${index}].member`),
    score: finite(score, `members[${index}].score`),
  })),
  condition: sortedSetCondition(request.condition),
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** See {@link Operation}. */
export const toSortedSetRange: Make<pb.SortedSetRangeRequest, "sortedSetRange"> = (namespaces, request) => ({
  kind: "sortedSetRange",
  namespace: namespaces.resolveFor(request.namespace, "sortedSet"),
  key: keyOf(request.key),
  by:
    request.range.case === "byScore"
      ? { score: boundsOf(request.range.value) }
      : { rank: request.range.case === "byRank" ? rangeOf(request.range.value) : { start: 0, stop: -1 } },
  reverse: request.reverse,
  offset: Number(request.offset),
  limit: Math.min(request.limit === 0 ? SORTED_SET_RANGE_DEFAULT : request.limit, SORTED_SET_RANGE_MAXIMUM),
})

/** See {@link Operation}. */
export const toSortedSetRemove: Make<pb.SortedSetRemoveRequest, "sortedSetRemove"> = (
  namespaces,
  request,
) => ({
  kind: "sortedSetRemove",
  namespace: namespaces.resolveFor(request.namespace, "sortedSet"),
  key: keyOf(request.key),
  members: request.members,
})

/** See {@link Operation}. */
export const toSortedSetIncrement: Make<pb.SortedSetIncrementRequest, "sortedSetIncrement"> = (
  namespaces,
  request,
) => ({
  kind: "sortedSetIncrement",
  namespace: namespaces.resolveFor(request.namespace, "sortedSet"),
  key: keyOf(request.key),
  member: keyOf(request.member, "member"),
  delta: finite(request.delta, "delta"),
  expiration: expirationOf(request.expiration),
  refreshTtl: request.refreshTtl,
})

/** The operation in an item of Execute or Pipeline. Raises INVALID_FIELD for one with a request_id of its own. */
export function toOperation(namespaces: Namespaces, { operation }: pb.CacheOperation): Operation {
  if (operation.case === undefined) throw invalidField("operation", "is missing")
  if ("requestId" in operation.value && operation.value.requestId !== "") {
    throw invalidField("request_id", "belongs to the call, not to one of its operations")
  }
  // The table pairs each case with its own request, which the compiler cannot follow through the union.
  const make = MAKERS[operation.case] as (namespaces: Namespaces, request: unknown) => Operation
  return make(namespaces, operation.value)
}

const MAKERS = {
  get: toGet,
  set: toSet,
  delete: toDelete,
  increment: toIncrement,
  expire: toExpire,
  hashSet: toHashSet,
  hashGet: toHashGet,
  hashDelete: toHashDelete,
  hashIncrement: toHashIncrement,
  listPush: toListPush,
  listRange: toListRange,
  listPop: toListPop,
  listTrim: toListTrim,
  sortedSetAdd: toSortedSetAdd,
  sortedSetRange: toSortedSetRange,
  sortedSetRemove: toSortedSetRemove,
  sortedSetIncrement: toSortedSetIncrement,
} satisfies { readonly [K in Operation["kind"]]: Make<never, K> }

/** A key that is not empty; the upper bound is the proto's. */
function keyOf(key: string, field = "key"): string {
  if (key === "") throw invalidField(field, "is empty")
  return key
}

function valueIn(value: pb.CacheValue | undefined, path: string): ReturnType<typeof readValue> {
  if (value === undefined) throw invalidField(path, "is missing")
  return readValue(value, `${path}.`)
}

function additionOf(delta: pb.CacheServiceIncrementRequest["delta"]): Addition {
  switch (delta.case) {
    case "integer": {
      const { delta: by, initial, minimum, maximum } = delta.value
      return { case: "integer", delta: by, initial, minimum, maximum }
    }
    case "number": {
      const { delta: by, initial, minimum, maximum } = delta.value
      return {
        case: "number",
        delta: finite(by, "number.delta"),
        initial: finite(initial, "number.initial"),
        minimum,
        maximum,
      }
    }
    default:
      throw invalidField("delta", "is missing: set integer or number")
  }
}

function finite(value: number, field: string): number {
  if (!Number.isFinite(value)) throw invalidField(field, "is not finite")
  return value
}

function rangeOf({
  start,
  stop,
}: {
  readonly start: bigint
  readonly stop?: bigint | undefined
}): IndexRange {
  return { start: Number(start), stop: stop === undefined ? -1 : Number(stop) }
}

function boundsOf(range: pb.ScoreRange): ScoreBounds {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = range
  if (Number.isNaN(minimum)) throw invalidField("by_score.minimum", "is not a number")
  if (Number.isNaN(maximum)) throw invalidField("by_score.maximum", "is not a number")
  const { minimumExclusive, maximumExclusive } = range
  return { minimum, maximum, minimumExclusive, maximumExclusive }
}

function endOf(end: ListEnd): "head" | "tail" {
  if (end === ListEnd.HEAD) return "head"
  if (end === ListEnd.TAIL) return "tail"
  throw invalidField("end", "must be LIST_END_HEAD or LIST_END_TAIL")
}

function setCondition(condition: SetCondition): "always" | "ifAbsent" | "ifPresent" {
  switch (condition) {
    case SetCondition.UNSPECIFIED:
      return "always"
    case SetCondition.IF_ABSENT:
      return "ifAbsent"
    case SetCondition.IF_PRESENT:
      return "ifPresent"
    default:
      throw invalidField("condition", "is not a SetCondition")
  }
}

function sortedSetCondition(
  condition: SortedSetCondition,
): Extract<Operation, { kind: "sortedSetAdd" }>["condition"] {
  switch (condition) {
    case SortedSetCondition.UNSPECIFIED:
      return "always"
    case SortedSetCondition.IF_ABSENT:
      return "ifAbsent"
    case SortedSetCondition.IF_PRESENT:
      return "ifPresent"
    case SortedSetCondition.IF_GREATER:
      return "ifGreater"
    case SortedSetCondition.IF_LESS:
      return "ifLess"
    default:
      throw invalidField("condition", "is not a SortedSetCondition")
  }
}
