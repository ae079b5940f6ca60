/** The cache port in the daemon's own memory. Every method answers at once; see ./README.md for what that costs. */
import { globMatcher } from "../../domain/cache/glob.ts"
import type { CacheEntry, CacheKeyInfo, Namespace } from "../../domain/cache/model.ts"
import type {
  Operation,
  Outcome,
  ReadOperation,
  ResultOf,
  WriteOperation,
} from "../../domain/cache/operations.ts"
import type { CacheCapabilities, CacheStore, ScriptCall } from "../../domain/cache/ports.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { type CacheLimits, Core } from "./core.ts"
import { Gate } from "./gate.ts"
import { IdempotencyRecords } from "./idempotency.ts"
import { Journal } from "./journal.ts"
import { pageOfKeys } from "./list-keys.ts"
import { runOperation } from "./run-operation.ts"
import type { ScriptRunner } from "./scripts.ts"
import type { Space } from "./space.ts"
import { get } from "./value-operations.ts"

/** What the store is made of; {@link scripts} undefined means that there are none. */
export interface InProcessCacheOptions {
  readonly clock: Clock
  readonly limits: CacheLimits
  readonly scripts: ScriptRunner | undefined
}

/** See the file's comment. */
export class InProcessCacheStore implements CacheStore {
  readonly capabilities: CacheCapabilities
  readonly #core: Core
  readonly #gate: Gate
  readonly #records: IdempotencyRecords
  readonly #scripts: ScriptRunner | undefined
  #sweepFrom = 0

  constructor({ clock, limits, scripts }: InProcessCacheOptions) {
    this.#core = new Core(limits)
    this.#gate = new Gate(clock)
    this.#records = new IdempotencyRecords(clock)
    this.#scripts = scripts
    this.capabilities = {
      engine: "inprocess",
      durable: false,
      shared: false,
      scripts: scripts !== undefined,
      ...(scripts === undefined ? { scriptsReason: "no script runtime was given to the engine" } : {}),
      rollback: true,
      maximumKeyBytes: limits.maxKeyBytes,
    }
  }

  /** What all tenants' keys weigh together, and how many there are; expired ones count until they are swept. */
  usage(): { readonly bytes: number; readonly entries: number } {
    let entries = 0
    for (const tenant of this.#core.tenants.values()) {
      for (const space of tenant.spaces.values()) entries += space.entries.size
    }
    return { bytes: this.#core.bytes, entries }
  }

  /** Frees all keys of a tenant, and what repeated calls would be answered; answers how many keys there were. */
  eraseTenant(tenant: TenantId): number {
    this.#records.forget(tenant)
    return this.#core.forget(tenant)
  }

  /** Whether the tenant has any key, expired ones included. */
  holdsTenant(tenant: TenantId): boolean {
    const spaces = this.#core.tenants.get(tenant)?.spaces.values() ?? []
    return [...spaces].some(({ entries }) => entries.size > 0)
  }

  get(scope: CallScope, namespace: Namespace, key: string): CacheEntry | undefined {
    const nowMs = this.#gate.enter(scope)
    return get(this.#core.space(scope.tenant, namespace), key, nowMs)
  }

  batchGet(
    scope: CallScope,
    namespace: Namespace,
    keys: readonly string[],
  ): readonly (CacheEntry | undefined)[] {
    const nowMs = this.#enter(scope)
    const space = this.#core.space(scope.tenant, namespace)
    return keys.map((key) => {
      const entry = get(space, key, nowMs)
      if (entry !== undefined) this.#core.answer(entry.bytes)
      return entry
    })
  }

  read<O extends ReadOperation>(scope: CallScope, operation: O): ResultOf<O> {
    const nowMs = this.#enter(scope)
    return runOperation(this.#core.space(scope.tenant, operation.namespace), operation, nowMs)
  }

  write<O extends WriteOperation>(scope: CallScope, operation: O): ResultOf<O> {
    const nowMs = this.#enter(scope)
    const space = this.#core.space(scope.tenant, operation.namespace)
    if (scope.idempotency === undefined) return runAndSettle(space, operation, nowMs)
    return this.#records.once(scope, operation.kind, () => runAndSettle(space, operation, nowMs))
  }

  execute(scope: CallScope, operations: readonly Operation[], atomic: boolean): readonly Outcome[] {
    const nowMs = this.#enter(scope)
    return this.#records.once(scope, "execute", () =>
      atomic ? this.#all(scope, operations, nowMs) : this.#each(scope, operations, nowMs),
    )
  }

  listKeys(scope: CallScope, namespace: Namespace, prefix: string, page: PageRequest): Page<CacheKeyInfo> {
    const nowMs = this.#enter(scope)
    return pageOfKeys(this.#core.space(scope.tenant, namespace), prefix, page, nowMs)
  }

  invalidateTags(scope: CallScope, namespace: Namespace, tags: readonly string[]): void {
    this.#enter(scope)
    this.#records.once(scope, "invalidateTags", () =>
      this.#core.space(scope.tenant, namespace).invalidate(tags),
    )
  }

  invalidatePattern(scope: CallScope, namespace: Namespace, pattern: string): number {
    const nowMs = this.#enter(scope)
    const matches = globMatcher(pattern, "pattern")
    return this.#records.once(scope, "invalidatePattern", () => {
      const space = this.#core.space(scope.tenant, namespace)
      let deleted = 0
      for (const entry of space.entries.values()) {
        if (!matches(entry.key)) continue
        if (entry.isLive(nowMs)) deleted++
        space.remove(entry)
      }
      return deleted
    })
  }

  clearNamespace(scope: CallScope, namespace: Namespace): number {
    const nowMs = this.#enter(scope)
    return this.#records.once(scope, "clearNamespace", () =>
      this.#core.space(scope.tenant, namespace).clear(nowMs),
    )
  }

  async runScript(scope: CallScope, namespace: Namespace, call: ScriptCall): Promise<JsonValue> {
    this.#enter(scope)
    if (this.#scripts === undefined) {
      throw new DomainError("UNSUPPORTED_BY_ENGINE", "this cache engine has no script runtime", {
        metadata: { engine: this.capabilities.engine, capability: "scripts" },
      })
    }
    const script = await this.#scripts.prepare(call.name)
    // From here on nothing waits, so that no other call sees a part of the script's work.
    const nowMs = this.#enter(scope)
    const space = this.#core.space(scope.tenant, namespace)
    return this.#records.once(scope, "runScript", () => {
      const result = this.#atomically(() => script(space, call, nowMs))
      this.#core.settle(space)
      return result
    })
  }

  sweep(scope: CallScope, limit: number): number {
    const nowMs = this.#enter(scope)
    const spaces = [...this.#core.tenants.values()].flatMap((tenant) => [...tenant.spaces.values()])
    let left = limit
    let freed = 0
    for (let turn = 0; turn < spaces.length && left > 0; turn++) {
      const space = spaces[this.#sweepFrom++ % spaces.length]
      if (space === undefined) break
      const done = space.sweep(nowMs, left)
      left -= done.seen
      freed += done.freed
    }
    return freed
  }

  async close(): Promise<void> {
    this.#gate.close()
    this.#core.tenants.clear()
    this.#records.clear()
  }

  #enter(scope: CallScope): number {
    this.#core.answered = 0
    return this.#gate.enter(scope)
  }

  #each(scope: CallScope, operations: readonly Operation[], nowMs: number): readonly Outcome[] {
    return operations.map((operation) => {
      try {
        const space = this.#core.space(scope.tenant, operation.namespace)
        return { ok: true, result: runAndSettle(space, operation, nowMs) }
      } catch (error) {
        if (error instanceof DomainError) return { ok: false, error }
        throw error
      }
    })
  }

  #all(scope: CallScope, operations: readonly Operation[], nowMs: number): readonly Outcome[] {
    const outcomes = this.#atomically(() =>
      operations.map((operation, index): Outcome => {
        try {
          const space = this.#core.space(scope.tenant, operation.namespace)
          return { ok: true, result: runOperation(space, operation, nowMs) }
        } catch (error) {
          throw error instanceof DomainError ? atIndex(error, index) : error
        }
      }),
    )
    for (const { namespace } of operations) this.#core.settle(this.#core.space(scope.tenant, namespace))
    return outcomes
  }

  #atomically<T>(work: () => T): T {
    const journal = new Journal()
    this.#core.journal = journal
    try {
      return work()
    } catch (error) {
      this.#core.journal = undefined
      journal.rollBack()
      throw error
    } finally {
      this.#core.journal = undefined
    }
  }
}

function runAndSettle<O extends Operation>(space: Space, operation: O, nowMs: number): ResultOf<O> {
  const result = runOperation(space, operation, nowMs)
  space.core.settle(space)
  return result
}

function atIndex(error: DomainError, index: number): DomainError {
  return new DomainError(error.reason, `operations[${index}]: ${error.message}; nothing was done`, {
    metadata: { ...error.metadata, operation: String(index) },
    violations: error.violations.map(({ field, description }) => ({
      field: `operations[${index}].${field}`,
      description,
    })),
    cause: error,
  })
}
