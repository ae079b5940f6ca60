/** What the cache keeps: values, hashes, lists and sorted sets under keys, in namespaces with a policy. */
import type { JsonValue } from "../kernel/json.ts"

/** The bare value in the form in which it was given. The names are those of the API's oneof. */
export type Content =
  | { readonly case: "data"; readonly value: Uint8Array }
  | { readonly case: "text"; readonly value: string }
  | { readonly case: "json"; readonly value: JsonValue }
  | { readonly case: "integer"; readonly value: bigint }
  | { readonly case: "number"; readonly value: number }

/** A value with its media type: what a field of a hash, an item of a list and a message hold. */
export interface CacheValue {
  readonly content: Content
  /** Media type as given; empty for none. */
  readonly contentType: string
}

/** A stored value as it is read. Must not be changed, and is read before anything else is awaited. */
export interface CacheEntry extends CacheValue {
  /** Rises with every change of the key. */
  readonly revision: bigint
  /** Milliseconds since the epoch; Infinity for a value that does not expire. */
  readonly expireTimeMs: number
  readonly tags: readonly string[]
}

/** What a key holds. */
export type CacheKind = "value" | "hash" | "list" | "sortedSet"

/** A namespace with everything decided; see {@link NamespacePolicy} for what may be configured. */
export interface Namespace {
  readonly name: string
  /** The only kind of key it takes. */
  readonly kind: CacheKind | "any"
  /** Time to live of keys written without one; Infinity for none. */
  readonly defaultTtlMs: number
  /** Most items, fields or members of one key. */
  readonly maximumLength: number
  /** Most keys per tenant; Infinity for no limit of its own. */
  readonly capacityEntries: number
  /** Most bytes per tenant; Infinity for no limit of its own. */
  readonly capacityBytes: number
  /** Whether a read restarts the time to live. */
  readonly refreshOnRead: boolean
  /** Whether a write to an existing collection or number restarts the time to live. */
  readonly refreshOnWrite: boolean
}

/** What the configuration may say about a namespace; what is left out means no limit, no expiry, any kind. */
export type NamespacePolicy = Partial<Omit<Namespace, "name">>

/** When a key expires; undefined leaves it to the namespace. */
export type Expiration = { readonly atMs: number } | { readonly ttlMs: number } | "never" | undefined

/** The moment of expiry in milliseconds since the epoch, Infinity for none. */
export function expireTimeOf(expiration: Expiration, namespace: Namespace, nowMs: number): number {
  if (expiration === undefined) return nowMs + namespace.defaultTtlMs
  if (expiration === "never") return Number.POSITIVE_INFINITY
  return "atMs" in expiration ? expiration.atMs : nowMs + expiration.ttlMs
}

/** The time to live that a refresh restarts, Infinity where there is none to restart. */
export function timeToLiveOf(expiration: Expiration, namespace: Namespace): number {
  if (expiration === undefined) return namespace.defaultTtlMs
  return expiration !== "never" && "ttlMs" in expiration ? expiration.ttlMs : Number.POSITIVE_INFINITY
}

/** One key as ListKeys answers it. */
export interface CacheKeyInfo {
  readonly key: string
  readonly kind: CacheKind
  readonly revision: bigint
  readonly expireTimeMs: number
  readonly bytes: number
}
