/**
 * Names of keys on the server. Every one carries the tenant with its length before it, and a hash tag, so that what one script
 * touches lies in one slot: a tenant's namespace, a limited thing, a topic. In a cluster a cache key may name an entity in braces,
 * as in `{agent-7}:plan`: all keys of one entity lie together, and those of different entities are spread.
 */
import type { Namespace } from "../../domain/cache/model.ts"
import type { RateLimitRule } from "../../domain/cache/rate-limit.ts"
import { type Idempotency, parseTenantId, type TenantId } from "../../domain/kernel/scope.ts"
import { Preformed } from "./packet.ts"
import { crc16, hashTag } from "./slots.ts"

/** What stands before every key. */
export const DEFAULT_PREFIX = "keelplane"

/** Over how many slots the entities of a namespace are spread in a cluster. A change of it loses what they hold. */
const PARTITIONS = 16

/** How many tenants' keys are kept as they are sent; then all are made anew. */
const MOST_TENANTS = 10_000

/** The keys of a part of a tenant's namespace that many calls take. */
export class SpaceKeys {
  /** The beginning of all. */
  readonly base: string
  readonly entries: Preformed
  /** The namespace's own keys that quick writes take. */
  readonly written: Preformed

  constructor(base: string) {
    this.base = base
    this.entries = new Preformed([`${base}entries`])
    this.written = new Preformed([`${base}entries`, `${base}names`, `${base}expiry`, `${base}counters`])
  }
}

/** Makes keys under one prefix, which must not contain `{`. */
export class Keys {
  readonly #prefix: string
  /** By tenant, and then by namespace and part. */
  readonly #spaces = new Map<TenantId, Map<string, SpaceKeys[]>>()
  /** Whether a namespace may have more than one slot: in a cluster. */
  readonly isSpread: boolean

  constructor(prefix: string = DEFAULT_PREFIX, isSpread = false) {
    this.#prefix = prefix
    this.isSpread = isSpread
  }

  /** The parts of a namespace: always the first, 0; those of entities only in a cluster, and where no capacity counts all keys. */
  partitions(namespace: Pick<Namespace, "capacityEntries" | "capacityBytes">): readonly number[] {
    const bounded = Number.isFinite(namespace.capacityEntries) || Number.isFinite(namespace.capacityBytes)
    return this.isSpread && !bounded ? ALL : FIRST
  }

  /** The entity that a cache key names in braces; undefined where it names none, or that makes no difference. */
  entity(namespace: Pick<Namespace, "capacityEntries" | "capacityBytes">, key: string): string | undefined {
    if (!this.isSpread || !key.includes("{")) return undefined
    return this.partitions(namespace).length === 1 ? undefined : hashTag(key)
  }

  /** The part in which a cache key lies: by its entity, 0 where it has none. */
  partition(namespace: Pick<Namespace, "capacityEntries" | "capacityBytes">, key: string): number {
    const entity = this.entity(namespace, key)
    return entity === undefined ? 0 : 1 + (crc16(entity) % PARTITIONS)
  }

  /** Where the tenants' namespaces are noted for the sweeper. */
  get spaces(): string {
    return `${this.#prefix}:spaces`
  }

  /** The beginning of all keys of a tenant. */
  tenant(tenant: TenantId): string {
    return `${this.#prefix}:{${tenant.length}:${tenant}:`
  }

  /** The beginning of all keys of a part of a tenant's namespace. */
  space(tenant: TenantId, { name }: Pick<Namespace, "name">, partition = 0): string {
    const part = partition === 0 ? "" : `:${partition}`
    return `${this.#prefix}:{${tenant.length}:${tenant}:${name}${part}}:`
  }

  /** The keys of a part of a tenant's namespace, of which the same object is given for as long as it is kept. */
  spaceKeys(tenant: TenantId, namespace: Pick<Namespace, "name">, partition: number): SpaceKeys {
    let spaces = this.#spaces.get(tenant)
    if (spaces === undefined) {
      if (this.#spaces.size >= MOST_TENANTS) this.#spaces.clear()
      spaces = new Map()
      this.#spaces.set(tenant, spaces)
    }
    let parts = spaces.get(namespace.name)
    if (parts === undefined) {
      parts = []
      spaces.set(namespace.name, parts)
    }
    const known = parts[partition]
    if (known !== undefined) return known
    const made = new SpaceKeys(this.space(tenant, namespace, partition))
    parts[partition] = made
    return made
  }

  /**
   * The beginning of all keys that count for one limited thing; the tag is cut at a `}` in it, which only makes it coarser. In a cluster
   * limited things that name the same entity lie together.
   */
  limited(tenant: TenantId, key: string): string {
    const entity = this.isSpread ? hashTag(key) : undefined
    if (entity !== undefined) {
      return `${this.#prefix}:{${tenant.length}:${tenant}:limit:${entity}}:${key.length}:${key}:limit:`
    }
    return `${this.#prefix}:{${tenant.length}:${tenant}:${key.length}:${key}}:limit:`
  }

  /** A rule's state and log. */
  limit(tenant: TenantId, rule: RateLimitRule): readonly [string, string] {
    const { algorithm, windowMs, name } = rule
    const own = `${this.limited(tenant, rule.key)}${algorithm}:${windowMs}:${name.length}:${name}`
    return [`${own}:state`, `${own}:log`]
  }

  /** The beginning of a topic's keys. */
  topic(tenant: TenantId, topic: string): string {
    return `${this.#prefix}:{${tenant.length}:${tenant}:topic:${topic}}:`
  }

  /** The channel of a topic. */
  channel(tenant: TenantId, topic: string): string {
    return `${this.#prefix}:${tenant.length}:${tenant}:${topic}`
  }

  /** Whose topic a channel is, or undefined for one that is not ours. */
  parseChannel(channel: string): { readonly tenant: TenantId; readonly topic: string } | undefined {
    const start = this.#prefix.length + 1
    const colon = channel.indexOf(":", start)
    const from = colon + 1
    const to = from + Number(channel.slice(start, colon))
    const tenant = parseTenantId(channel.slice(from, to))
    return tenant === undefined ? undefined : { tenant, topic: channel.slice(to + 1) }
  }
}

const FIRST: readonly number[] = [0]
const ALL: readonly number[] = Array.from({ length: PARTITIONS + 1 }, (_, index) => index)

/** The suffixes of a space's own keys, in the order in which scripts take them. */
export const SPACE_SUFFIXES = [
  "entries",
  "names",
  "order",
  "expiry",
  "tags",
  "holders",
  "counters",
  "orphans",
] as const

/** The key of a request_id's record below `base`. */
export function recordKey(base: string, { method, requestId }: Idempotency, operation: string): string {
  return `${base}request:${method.length}:${method}:${operation}:${requestId}`
}

/** How long a request_id is remembered. */
export const RECORD_KEPT_MS = 24 * 3_600_000

/** A hash as text. */
export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")
}
