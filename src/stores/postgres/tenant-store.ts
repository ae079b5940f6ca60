/** Tenants in PostgreSQL. Their rows belong to the platform, so every statement runs in its scope. */
import type { Tenant, TenantFields, TenantStatus } from "../../domain/control/model.ts"
import type { TenantStore } from "../../domain/control/ports.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import { DEFAULT_TENANT, PLATFORM_TENANT, type TenantId } from "../../domain/kernel/scope.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { type ResourceRow, ResourceSql } from "./control-resource.ts"
import { platformScope } from "./platform-scope.ts"
import { deleteTenantRows, forgetAnswers, hasTenantRows } from "./tenant-rows.ts"

interface TenantRow extends ResourceRow {
  readonly display_name: string
  readonly labels: Record<string, string>
  readonly status: TenantStatus
  readonly plan: string
  readonly limits: Record<string, string>
}

const sql = new ResourceSql<Tenant, TenantFields, TenantRow>({
  kind: "tenant",
  table: "keelplane.tenants",
  columns: {
    displayName: { name: "display_name", write: (value) => value },
    labels: { name: "labels", write: (value) => JSON.stringify(value) },
    status: { name: "status", write: (value) => value },
    plan: { name: "plan", write: (value) => value },
    limits: { name: "limits", write: writeLimits },
  },
  read: (row) => ({
    displayName: row.display_name,
    labels: row.labels,
    status: row.status,
    plan: row.plan,
    limits: Object.fromEntries(Object.entries(row.limits).map(([name, limit]) => [name, BigInt(limit)])),
  }),
  filter: {
    display_name: { sql: "display_name" },
    status: { sql: "status" },
    plan: { sql: "plan" },
    labels: { sql: "labels" },
  },
})

const NEW: TenantFields = { displayName: "", labels: {}, status: "ACTIVE", plan: "", limits: {} }

/** The tenant store. A tenant's changes are in its own audit log, where its administrators see them. */
export function createTenantStore(deps: ControlDeps): TenantStore {
  const { database, clock } = deps
  const audited = (action: string, id: string) => ({ action, kind: "tenant", id, tenant: id as TenantId })
  return {
    create: (scope, id, fields) =>
      controlMutation(deps, platformScope(scope), audited("CreateTenant", id), (tx, now) =>
        sql.insert(tx, id, fields, now),
      ),
    get: (scope, id) => sql.get(database, platformScope(scope), id),
    list: (scope, filter, page) => sql.list(database, platformScope(scope), filter, page),
    update: (scope, id, patch, ifRevision) =>
      controlMutation(deps, platformScope(scope), audited("UpdateTenant", id), (tx, now) =>
        sql.update(tx, id, patch, now, ifRevision),
      ),
    delete: (scope, id, force, ifRevision) =>
      controlMutation(deps, platformScope(scope), audited("DeleteTenant", id), async (tx) => {
        await sql.lock(tx, id, ifRevision)
        if (id === DEFAULT_TENANT) throw refused(id, "BUILT_IN", "is built in and cannot be deleted")
        if (!force && (await hasTenantRows(tx, id))) {
          throw refused(id, "NOT_EMPTY", "still holds data; empty it, or delete with force")
        }
        const deleted = force ? await deleteTenantRows(tx, id) : 0n
        if (!force) await forgetAnswers(tx, id)
        await sql.remove(tx, id)
        return deleted
      }),
    async ensure(scope, id) {
      await database.query(platformScope(scope), {
        text: `insert into keelplane.tenants
            (tenant, id, display_name, labels, status, plan, limits, revision, create_time, update_time)
          values ($1, $2, $3, '{}', $4, $5, '{}', 1, $6, $6) on conflict (tenant, id) do nothing`,
        values: [PLATFORM_TENANT, id, NEW.displayName, NEW.status, NEW.plan, new Date(clock.now())],
      })
    },
    async status(scope, id) {
      const { rows } = await database.query<{ status: TenantStatus }>(platformScope(scope), {
        name: "kp_tenant_status",
        text: "select status from keelplane.tenants where tenant = $1 and id = $2",
        values: [PLATFORM_TENANT, id],
      })
      return rows[0]?.status
    },
  }
}

function writeLimits(limits: Readonly<Record<string, bigint>>): string {
  return JSON.stringify(limits, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value))
}

function refused(id: string, state: string, why: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `tenant "${id}" ${why}`, {
    metadata: { resource: "tenant", name: id, state },
  })
}
