/** The scope for rows that belong to the platform itself. */
import {
  type CallScope,
  type Idempotency,
  PLATFORM_TENANT,
  type TenantId,
} from "../../domain/kernel/scope.ts"
import type { TraceContext } from "../../domain/kernel/trace.ts"

/** A caller's scope turned to all tenants. It hands everything else on only when asked, for a call's signal is made on first use. */
class PlatformScope implements CallScope {
  readonly tenant: TenantId = PLATFORM_TENANT
  readonly #inner: CallScope
  constructor(inner: CallScope) {
    this.#inner = inner
  }
  get actor(): string {
    return this.#inner.actor
  }
  get signal(): AbortSignal {
    return this.#inner.signal
  }
  get deadlineMs(): number {
    return this.#inner.deadlineMs
  }
  get idempotency(): Idempotency | undefined {
    return this.#inner.idempotency
  }
  get trace(): TraceContext | undefined {
    return this.#inner.trace
  }
}

/** `scope` with the platform's sight of all tenants. Only for what a platform principal alone may ask for. */
export function platformScope(scope: CallScope): CallScope {
  return scope.tenant === PLATFORM_TENANT ? scope : new PlatformScope(scope)
}
