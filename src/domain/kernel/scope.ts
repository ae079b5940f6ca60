/** What every port call knows about the call it serves. */
import type { TraceContext } from "./trace.ts"

/** A tenant's id. Only {@link parseTenantId} and the built-in constants make one. */
export type TenantId = string & { readonly __brand: "TenantId" }

/** The tenant that needs no credential on loopback when nothing is configured. */
export const DEFAULT_TENANT = "default" as TenantId

/**
 * Stands for all tenants: sweepers, migrations, credential look-up and other work of the daemon itself. Row-level security
 * lets it see every row, so no request's scope may ever carry it. It is not a valid tenant id.
 */
export const PLATFORM_TENANT = "*" as TenantId

const TENANT_ID = /^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$/

/** The tenant id in `text`, or undefined: 1 to 63 of a-z, 0-9, `-`, `_`, beginning and ending with a letter or digit. */
export function parseTenantId(text: string): TenantId | undefined {
  return TENANT_ID.test(text) ? (text as TenantId) : undefined
}

/** Makes a mutation repeatable. The port stores its result under this key, in the transaction of the effect itself. */
export interface Idempotency {
  /** Full RPC name, e.g. `keelplane.v1.JobService/EnqueueJob`. Keys are scoped to tenant + method. */
  readonly method: string
  /** The caller's request_id, 1 to 128 bytes. */
  readonly requestId: string
  /** SHA-256 over the request message without its request_id. The same id with another hash is REQUEST_ID_REUSED. */
  readonly bodyHash: Uint8Array
}

/** Passed as the first argument to every port method. */
export interface CallScope {
  /** Whose data; enforced by every adapter. */
  readonly tenant: TenantId
  /** Who calls, for audit: `key:<id>`, `local` or `system`. */
  readonly actor: string
  /** Aborted when the caller cancels, the deadline passes or the daemon stops. Made on first use: do not touch it on a hot path. */
  readonly signal: AbortSignal
  /** When the call must have ended, in milliseconds since the epoch; Infinity for the daemon's own work. */
  readonly deadlineMs: number
  /** Set for mutations that carry a request_id. */
  readonly idempotency?: Idempotency | undefined
  /** What to hang spans on; undefined when tracing is off. */
  readonly trace?: TraceContext | undefined
}

/**
 * A scope with other values in places. Spreading one instead (`{ ...scope }`) would lose its signal, actor and trace, which are
 * made when they are asked for and are therefore no properties of the object itself.
 */
export function scopeWith(scope: CallScope, changes: Partial<CallScope>): CallScope {
  return {
    tenant: changes.tenant ?? scope.tenant,
    actor: changes.actor ?? scope.actor,
    deadlineMs: changes.deadlineMs ?? scope.deadlineMs,
    idempotency: "idempotency" in changes ? changes.idempotency : scope.idempotency,
    get signal() {
      return changes.signal ?? scope.signal
    },
    get trace() {
      return changes.trace ?? scope.trace
    },
  }
}

const NEVER_ABORTED = new AbortController().signal

/** The scope of the daemon's own work for one tenant, or for all with {@link PLATFORM_TENANT}. */
export function systemScope(
  tenant: TenantId = PLATFORM_TENANT,
  signal: AbortSignal = NEVER_ABORTED,
): CallScope {
  return { tenant, actor: "system", signal, deadlineMs: Number.POSITIVE_INFINITY }
}
