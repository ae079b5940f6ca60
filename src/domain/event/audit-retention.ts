/** How long audit records are kept. */
import type { Clock } from "../kernel/clock.ts"
import type { CallScope } from "../kernel/scope.ts"
import { ByTenant } from "../kernel/tenant-classes.ts"
import { utcDay } from "./audit-chain.ts"
import type { AuditStore } from "./audit-ports.ts"

/** Years that a record is kept at the least; the store itself refuses to remove younger ones. */
export const AUDIT_RETENTION_YEARS = 7

/** Removes at most `limit` whole days that are past their retention and answers how many. In the platform's scope for all tenants. */
export function retireAudit(
  scope: CallScope,
  store: AuditStore,
  clock: Clock,
  limit: number,
  years: ByTenant<number> = new ByTenant(AUDIT_RETENTION_YEARS),
): Promise<number> {
  const before = years.map((own) => {
    const cutoff = new Date(clock.now())
    cutoff.setUTCFullYear(cutoff.getUTCFullYear() - Math.max(own, AUDIT_RETENTION_YEARS))
    return utcDay(cutoff.getTime())
  })
  return store.retire(scope, before, limit)
}
