/** The end of a tenant in a database. */
import type { TenantEraser } from "../../domain/control/erasure.ts"
import type { Database } from "./database.ts"
import { eraseTenantRows, hasTenantRows } from "./tenant-rows.ts"

/** Erases from every table of the database; `store` names it in certificates. */
export function createTenantEraser(database: Database, store: string): TenantEraser {
  return {
    store,
    holds: (scope) => database.transaction(scope, (tx) => hasTenantRows(tx, scope.tenant)),
    erase: async (scope) => {
      const gone = await database.transaction(scope, (tx) => eraseTenantRows(tx, scope.tenant))
      return gone.map(({ table, count }) => ({ store, what: table, count }))
    },
  }
}
