/** All tenants' spaces, what they weigh together, and who gives way when that is too much. */
import type { Namespace } from "../../domain/cache/model.ts"
import { MAXIMUM_BATCH_BYTES } from "../../domain/cache/size.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Journal } from "./journal.ts"
import { Space } from "./space.ts"

/** Bounds of the engine, in bytes. */
export interface CacheLimits {
  /** All keys of all tenants. */
  readonly maxBytes: number
  /** All keys of one tenant. */
  readonly maxBytesPerTenant: number
  /** One key with its whole content. */
  readonly maxKeyBytes: number
}

const MICROSECONDS = 1_000

/** One tenant's spaces. */
export class TenantCache {
  bytes = 0
  readonly spaces = new Map<string, Space>()
  #revision = 0

  /**
   * A revision above all of the tenant's before. It begins with the time in microseconds, so that it also rises above those
   * of the daemon's earlier lives and an expectation from then cannot hold by accident.
   */
  nextRevision(nowMs: number): bigint {
    this.#revision = Math.max(this.#revision + 1, Math.floor(nowMs) * MICROSECONDS)
    return BigInt(this.#revision)
  }

  /** The space that holds the tenant's least recently used entry. */
  spaceOfOldest(): Space | undefined {
    let found: Space | undefined
    for (const space of this.spaces.values()) {
      if (space.oldest === undefined) continue
      if (found?.oldest === undefined || space.oldest.usedAt < found.oldest.usedAt) found = space
    }
    return found
  }
}

/** See the file's comment. */
export class Core {
  readonly limits: CacheLimits
  readonly tenants = new Map<TenantId, TenantCache>()
  bytes = 0
  /** Counts uses, to compare recency across spaces. */
  uses = 0
  /** Set while an atomic call runs. */
  journal: Journal | undefined
  /** Bytes of the values that the running call has collected for its answer. */
  answered = 0

  constructor(limits: CacheLimits) {
    this.limits = limits
  }

  /** The tenant's space for a namespace, made on first use. */
  space(tenantId: TenantId, namespace: Namespace): Space {
    let tenant = this.tenants.get(tenantId)
    if (tenant === undefined) {
      tenant = new TenantCache()
      this.tenants.set(tenantId, tenant)
    }
    let space = tenant.spaces.get(namespace.name)
    if (space === undefined) {
      space = new Space(this, tenant, namespace)
      tenant.spaces.set(namespace.name, space)
    }
    return space
  }

  /** Drops everything of a tenant; answers how many keys there were. */
  forget(tenantId: TenantId): number {
    const tenant = this.tenants.get(tenantId)
    if (tenant === undefined) return 0
    this.tenants.delete(tenantId)
    this.bytes -= tenant.bytes
    return [...tenant.spaces.values()].reduce((sum, { entries }) => sum + entries.size, 0)
  }

  /** Raises LIMIT_EXCEEDED for a key that could not stay even if it were alone. */
  checkFits(space: Space, bytes: number): void {
    const { maxBytes, maxBytesPerTenant, maxKeyBytes } = this.limits
    const maximum = Math.min(maxBytes, maxBytesPerTenant, maxKeyBytes, space.namespace.capacityBytes)
    if (bytes > maximum) throw limitExceeded("key.bytes", bytes, maximum)
  }

  /** Counts a value that goes into the running call's answer; LIMIT_EXCEEDED beyond what a client takes in one message. */
  answer(bytes: number): void {
    this.answered += bytes
    if (this.answered > MAXIMUM_BATCH_BYTES)
      throw limitExceeded("answer.bytes", this.answered, MAXIMUM_BATCH_BYTES)
  }

  /**
   * Evicts until every capacity holds again; never during an atomic call. When all tenants together are too large, the largest
   * one gives way, so a tenant within its equal share never loses a key to another.
   */
  settle(space: Space): void {
    if (this.journal !== undefined) return
    const { capacityEntries, capacityBytes } = space.namespace
    while (space.entries.size > capacityEntries || space.bytes > capacityBytes) space.evictOldest()
    while (space.tenant.bytes > this.limits.maxBytesPerTenant) space.tenant.spaceOfOldest()?.evictOldest()
    while (this.bytes > this.limits.maxBytes) this.#largest()?.spaceOfOldest()?.evictOldest()
  }

  #largest(): TenantCache | undefined {
    let found: TenantCache | undefined
    for (const tenant of this.tenants.values()) {
      if (found === undefined || tenant.bytes > found.bytes) found = tenant
    }
    return found
  }
}
