import { DomainError, invalidField } from "../../domain/kernel/errors.ts"
import { parseTenantId } from "../../domain/kernel/scope.ts"
import type { Call } from "../call.ts"
import type { Interceptor } from "./step.ts"

/** The header by which a platform credential acts for a tenant. */
export const TENANT_HEADER = "x-keelplane-tenant"

/** Settles whose data the call is about: the credential's tenant, or the one a platform credential names. */
export function tenant(): Interceptor {
  return {
    name: "tenant",
    compile(method) {
      return method.access === "public" ? undefined : { enter }
    },
  }
}

function enter(call: Call): void {
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
  call.tenant = id
}
