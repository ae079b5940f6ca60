/** The tenant RPCs. */
import { parseFilter } from "../../domain/kernel/filter/index.ts"
import { TenantSchema } from "../../gen/keelplane/v1/control_service_pb.ts"
import { maskedFields, patchOf } from "../field-mask.ts"
import { type ControlHandlers, type ControlServiceDeps, PAGE } from "./deps.ts"
import { requiredId, TENANT_FILTER, TENANT_NAMES, tenantFields, tenantMessage } from "./resource-messages.ts"
import { certificateMessage } from "./sagas.ts"

type TenantHandlers = Pick<
  ControlHandlers,
  "createTenant" | "getTenant" | "listTenants" | "updateTenant" | "deleteTenant"
>

/** Handlers over the tenant store. */
export function tenantHandlers({ tenants, flows, pages, signals }: ControlServiceDeps): TenantHandlers {
  return {
    createTenant: async ({ tenant }, ctx) => {
      if (tenant === undefined) return {}
      const created = await tenants.create(
        ctx,
        requiredId("tenant.tenant_id", tenant.tenantId),
        tenantFields(tenant),
      )
      signals.identityChanged()
      return { tenant: tenantMessage(created) }
    },
    getTenant: async (req, ctx) => ({ tenant: tenantMessage(await tenants.get(ctx, req.tenantId)) }),
    listTenants: async (req, ctx) => {
      const filter = parseFilter(req.filter, TENANT_FILTER)
      const page = await tenants.list(ctx, filter, pages.request(ctx, req, PAGE))
      return { tenants: page.items.map(tenantMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    updateTenant: async ({ tenant, updateMask, ifRevisionMatch }, ctx) => {
      if (tenant === undefined) return {}
      const masked = maskedFields(TenantSchema, tenant, updateMask, Object.values(TENANT_NAMES))
      const patch = patchOf(tenantFields(tenant), TENANT_NAMES, masked)
      const updated = await tenants.update(ctx, tenant.tenantId, patch, ifRevisionMatch)
      signals.identityChanged()
      return { tenant: tenantMessage(updated) }
    },
    deleteTenant: async (req, ctx) => {
      const { deleted, certificate, sagaId, pending } = await flows.deleteTenant(
        ctx,
        req.tenantId,
        req.force,
        req.ifRevisionMatch,
      )
      signals.identityChanged()
      return { deletedRowCount: deleted, certificate: certificateMessage(certificate), sagaId, pending }
    },
  }
}
