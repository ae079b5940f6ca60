/** Which tenants there are, answered from memory: every call asks. */
import type { Clock } from "../kernel/clock.ts"
import { DomainError, isStoreAway, notFound } from "../kernel/errors.ts"
import { DEFAULT_TENANT, type TenantId } from "../kernel/scope.ts"
import { AWAY_MS, lookUpScope } from "./look-up.ts"
import type { TenantStatus } from "./model.ts"
import type { TenantStore } from "./ports.ts"
import type { ControlSignals } from "./signals.ts"

/** Asked by the tenant interceptor. Answers without a promise where memory has it. */
export interface TenantDirectory {
  /** Whether the tenant exists. */
  exists(tenant: TenantId): boolean | Promise<boolean>
  /** Throws (or rejects with) NOT_FOUND for an unknown tenant and FAILED_PRECONDITION for a suspended one. */
  require(tenant: TenantId): void | Promise<void>
  /** Stops listening to changes. */
  close(): void
}

/** How long what other daemons change may go unnoticed. */
export interface TenantDirectoryOptions {
  /** For tenants that exist; 5000 by default. */
  readonly ttlMs?: number
  /** For tenants that do not; 1000 by default. */
  readonly negativeTtlMs?: number
  /** Most tenants remembered; 10000 by default. */
  readonly maxEntries?: number
  /** How long what was known is believed while the store is away; 300000 by default. */
  readonly graceMs?: number
}

interface Entry {
  readonly status: TenantStatus | undefined
  readonly until: number
}

/** A directory over the tenant store. Changes made in this process are seen at once. */
export function createTenantDirectory(
  deps: { readonly tenants: TenantStore; readonly signals: ControlSignals; readonly clock: Clock },
  options: TenantDirectoryOptions = {},
): TenantDirectory {
  const { ttlMs = 5_000, negativeTtlMs = 1_000, maxEntries = 10_000, graceMs = 300_000 } = options
  const entries = new Map<string, Entry>()
  // An answer that was on its way while something changed may be old: it is used once and not remembered.
  let generation = 0
  // A look-up has just found the store away: then nobody waits for the next one about a tenant that is known.
  let awayUntil = 0
  const refreshing = new Set<string>()
  const close = deps.signals.onIdentityChange(() => {
    generation++
    entries.clear()
  })

  /** What is believed while the store is away: what was known, and that the tenant which every daemon makes exists. */
  function believed(tenant: TenantId): TenantStatus | undefined {
    const entry = entries.get(tenant)
    if (entry?.status !== undefined && entry.until + graceMs > deps.clock.now()) return entry.status
    return entry === undefined && tenant === DEFAULT_TENANT ? "ACTIVE" : undefined
  }

  function refresh(tenant: TenantId): void {
    if (refreshing.has(tenant)) return
    refreshing.add(tenant)
    // Who asks next is told what it finds out, or its failure.
    look(tenant)
      .catch(() => undefined)
      .finally(() => refreshing.delete(tenant))
  }

  async function look(tenant: TenantId): Promise<TenantStatus | undefined> {
    const asked = generation
    let status: TenantStatus | undefined
    try {
      status = await deps.tenants.status(lookUpScope(), tenant)
    } catch (error) {
      if (isStoreAway(error)) awayUntil = deps.clock.now() + AWAY_MS
      const known = isStoreAway(error) ? believed(tenant) : undefined
      if (known === undefined) throw error
      return known
    }
    awayUntil = 0
    if (asked === generation) {
      if (entries.size >= maxEntries) entries.clear()
      const until = deps.clock.now() + (status === undefined ? negativeTtlMs : ttlMs)
      entries.set(tenant, { status, until })
    }
    return status
  }

  /** What memory has; undefined where the store is to be asked. */
  function remembered(tenant: TenantId): Pick<Entry, "status"> | undefined {
    const entry = entries.get(tenant)
    if (entry !== undefined && entry.until > deps.clock.now()) return entry
    const status = awayUntil > deps.clock.now() ? believed(tenant) : undefined
    if (status === undefined) return undefined
    refresh(tenant)
    return { status }
  }

  return {
    exists(tenant) {
      const known = remembered(tenant)
      return known === undefined
        ? look(tenant).then((found) => found !== undefined)
        : known.status !== undefined
    },
    require(tenant) {
      const known = remembered(tenant)
      if (known === undefined) return look(tenant).then((found) => refuse(tenant, found))
      return refuse(tenant, known.status)
    },
    close,
  }
}

function refuse(tenant: string, status: TenantStatus | undefined): void {
  if (status === undefined) throw notFound("tenant", tenant)
  if (status === "SUSPENDED") {
    throw new DomainError("FAILED_PRECONDITION", `tenant "${tenant}" is suspended`, {
      metadata: { resource: "tenant", name: tenant, state: status },
    })
  }
}
