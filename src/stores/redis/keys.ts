/**
 * Names of keys on the server. Every one carries the tenant with its length before it, and a hash tag, so that what one script
 * touches lies in one slot: a tenant's namespace, a limited thing, a topic.
 */
import type { Namespace } from "../../domain/cache/model.ts"
import type { RateLimitRule } from "../../domain/cache/rate-limit.ts"
import { type Idempotency, parseTenantId, type TenantId } from "../../domain/kernel/scope.ts"

/** What stands before every key. */
export const DEFAULT_PREFIX = "keelplane"

/** Makes keys under one prefix, which must not contain `{`. */
export class Keys {
  readonly #prefix: string

  constructor(prefix: string = DEFAULT_PREFIX) {
    this.#prefix = prefix
  }

  /** Where the tenants' namespaces are noted for the sweeper. */
  get spaces(): string {
    return `${this.#prefix}:spaces`
  }

  /** The beginning of all keys of a tenant's namespace. */
  space(tenant: TenantId, namespace: Pick<Namespace, "name">): string {
    return `${this.#prefix}:{${tenant.length}:${tenant}:${namespace.name}}:`
  }

  /** The beginning of all keys that count for one limited thing; the tag is cut at a `}` in it, which only makes it coarser. */
  limited(tenant: TenantId, key: string): string {
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
