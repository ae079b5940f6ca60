/** Operations as the script's arguments: see ./lua/operations for the reading side, which takes them in this order. */
import type { Expiration, Namespace } from "../../domain/cache/model.ts"
import type { Addition, Operation, SortedSetRangeOperation } from "../../domain/cache/operations.ts"
import type { Argument } from "./answers.ts"
import { encodeValue } from "./values.ts"

type Encode<K extends Operation["kind"]> = (operation: Extract<Operation, { kind: K }>) => readonly Argument[]

const flag = (on: boolean): string => (on ? "1" : "0")
const revision = (expected: bigint | undefined): string => (expected === undefined ? "" : String(expected))
const list = (items: readonly Argument[]): readonly Argument[] => [items.length, ...items]

/** A number, empty where it is infinite. */
export function finite(value: number): string {
  return Number.isFinite(value) ? String(value) : ""
}

/** When a key expires, as scripts take it: see ./lua/space. */
export function moment(expiration: Expiration, namespace: Namespace): readonly Argument[] {
  if (expiration === undefined) return ["d", finite(namespace.defaultTtlMs)]
  if (expiration === "never") return ["n", ""]
  return "atMs" in expiration ? ["a", finite(expiration.atMs)] : ["t", finite(expiration.ttlMs)]
}

function growth(operation: {
  readonly namespace: Namespace
  readonly expiration: Expiration
  readonly refreshTtl: boolean
}): readonly Argument[] {
  return [...moment(operation.expiration, operation.namespace), flag(operation.refreshTtl)]
}

function addition(of: Addition): readonly Argument[] {
  const word = (value: bigint | number | undefined) => (value === undefined ? "" : String(value))
  return [
    of.case === "integer" ? "i" : "n",
    word(of.delta),
    word(of.initial),
    word(of.minimum),
    word(of.maximum),
  ]
}

function range({ by, reverse, offset, limit }: SortedSetRangeOperation): readonly Argument[] {
  const rest = [flag(reverse), offset, limit]
  if ("rank" in by) return ["rank", by.rank.start, by.rank.stop, ...rest]
  const { minimum, maximum, minimumExclusive, maximumExclusive } = by.score
  return ["score", bound(minimum), bound(maximum), flag(minimumExclusive), flag(maximumExclusive), ...rest]
}

function bound(score: number): string {
  if (score === Number.NEGATIVE_INFINITY) return "-inf"
  return score === Number.POSITIVE_INFINITY ? "+inf" : String(score)
}

const ENCODE: { readonly [K in Operation["kind"]]: Encode<K> } = {
  get: () => [],
  set: (o) => [
    encodeValue(o),
    ...moment(o.expiration, o.namespace),
    flag(o.keepExpiration),
    o.condition,
    revision(o.ifRevision),
    ...list(o.tags),
  ],
  delete: (o) => [revision(o.ifRevision)],
  increment: (o) => [...growth(o), ...addition(o.addition)],
  expire: (o) => [...moment(o.expiration, o.namespace), revision(o.ifRevision)],
  hashSet: (o) => [
    ...growth(o),
    flag(o.onlyIfAbsent),
    revision(o.ifRevision),
    o.fields.length,
    ...o.fields.flatMap(({ name, value }) => [name, encodeValue(value)]),
  ],
  hashGet: (o) => list(o.names),
  hashDelete: (o) => list(o.names),
  hashIncrement: (o) => [...growth(o), o.name, ...addition(o.addition)],
  listPush: (o) => [
    ...growth(o),
    o.end,
    o.maximumLength,
    flag(o.onlyIfPresent),
    ...list(o.values.map(encodeValue)),
  ],
  listRange: (o) => [o.start, o.stop, o.maximumItems],
  listPop: (o) => [o.end, o.count],
  listTrim: (o) => [o.start, o.stop],
  sortedSetAdd: (o) => [
    ...growth(o),
    o.condition,
    o.members.length,
    ...o.members.flatMap(({ member, score }) => [member, String(score)]),
  ],
  sortedSetRange: range,
  sortedSetRemove: (o) => list(o.members),
  sortedSetIncrement: (o) => [...growth(o), o.member, String(o.delta)],
}

/** The arguments of one operation; `keyIndex` counts from 1 among the call's keys. */
export function encodeOperation(operation: Operation, keyIndex: number): readonly Argument[] {
  // The table pairs each kind with its own function, which the compiler cannot follow through the union.
  const encode = ENCODE[operation.kind] as (operation: Operation) => readonly Argument[]
  return [operation.kind, keyIndex, ...encode(operation)]
}
