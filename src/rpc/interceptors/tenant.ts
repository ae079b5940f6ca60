import { DomainError, invalidField, notFound } from "../../domain/kernel/errors.ts"
import { parseTenantId, type TenantId } from "../../domain/kernel/scope.ts"
import type { Call } from "../call.ts"
import type { TenantGate } from "../server-options.ts"
import type { Interceptor } from "./step.ts"

/** The header by which a platform credential acts for a tenant. */
export const TENANT_HEADER = "x-keelplane-tenant"

/**
 * Settles whose data the call is about: the credential's tenant, or the one a platform credential names, which must exist where
 * there is a gate to ask.
 */
export function tenant(gate: TenantGate | undefined): Interceptor {
  return {
    name: "tenant",
    compile(method) {
      return method.access === "public" ? undefined : { enter: (call) => enter(call, gate) }
    },
  }
}

function enter(call: Call, gate: TenantGate | undefined): void | Promise<void> {
  const named = call.header(TENANT_HEADER)
  if (named === undefined || named === call.tenant) return
  if (!call.principal.platform) {
    throw new DomainError("PERMISSION_DENIED", "only a platform credential may act for another tenant", {
      metadata: { permission: "platform" },
    })
  }
  const id = parseTenantId(named)
  if (id === undefined) {
    throw invalidField(
      TENANT_HEADER,
      "must be 1 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends",
    )
  }
  const known = gate?.exists(id) ?? true
  if (known instanceof Promise) return known.then((exists) => actFor(call, id, exists))
  return actFor(call, id, known)
}

function actFor(call: Call, id: TenantId, exists: boolean): void {
  if (!exists) throw notFound("tenant", id)
  call.tenant = id
}
