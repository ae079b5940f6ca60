/** The tenant of a transaction, and the proof at start-up that the database enforces it. */
import { DomainError } from "../../domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../domain/kernel/scope.ts"
import type { Database } from "./database.ts"
import type { EncodedStatement } from "./exchange.ts"
import { APP_ROLE, settingCalls } from "./session-settings.ts"

/** What a transaction must bring with it, by the server it runs on. */
export interface TenancyOptions {
  /** Whether the server can stop a statement at its deadline by itself. */
  readonly serverTimeouts: boolean
  /** Set where connections keep nothing: each transaction then says its role and settings, too. */
  readonly stateless?: boolean
}

const TENANT_AND_TIMEOUT =
  "select set_config('keelplane.tenant', $1, true), set_config('statement_timeout', $2, true)"
const EVERYTHING = `${TENANT_AND_TIMEOUT}, set_config('role', '${APP_ROLE}', true), ${settingCalls("transaction")}`

/** The statement that opens every transaction: whose rows it may see, until it ends, and how long that may take. */
export function tenantStatement(scope: CallScope, options: TenancyOptions): EncodedStatement {
  if (!options.serverTimeouts) {
    return {
      name: "kp_tenant",
      text: "select set_config('keelplane.tenant', $1, true)",
      values: [scope.tenant],
    }
  }
  const left = scope.deadlineMs - Date.now()
  // 0 would mean no limit at all.
  const timeout = Number.isFinite(left) ? Math.max(1, Math.ceil(left)) : 0
  return {
    name: options.stateless === true ? "kp_tenant_stateless" : "kp_tenant_timeout",
    text: options.stateless === true ? EVERYTHING : TENANT_AND_TIMEOUT,
    values: [scope.tenant, String(Math.min(timeout, 2_147_483_647))],
  }
}

const ROLE = `select r.rolname as role, r.rolsuper as super, r.rolbypassrls as bypass
  from pg_roles r where r.rolname = current_user`

const OPEN_TABLES = `select c.relname as table, pg_has_role(current_user, c.relowner, 'usage') as owned
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
  where n.nspname = 'keelplane' and c.relkind in ('r', 'p')
    and (not c.relrowsecurity or not c.relforcerowsecurity or pg_has_role(current_user, c.relowner, 'usage'))
  order by c.relname`

/**
 * Throws STORE_AUTH, naming what is wrong, when row-level security would not bind the daemon's statements: their role is a
 * superuser, may bypass it or owns tables, or a table with a `tenant` column does not force it. To be called before serving.
 */
export async function assertIsolation(database: Database): Promise<void> {
  const [roles, tables] = await database.pipeline(systemScope(), [{ text: ROLE }, { text: OPEN_TABLES }])
  const faults: string[] = []
  const role = roles?.rows[0]
  if (role === undefined) faults.push("the role of the connection is unknown")
  if (role?.super === true) faults.push(`role ${role.role} is a superuser`)
  if (role?.bypass === true) faults.push(`role ${role.role} has BYPASSRLS`)
  for (const { table, owned } of tables?.rows ?? []) {
    faults.push(
      owned === true ? `role ${role?.role} owns table ${table}` : `table ${table} does not force it`,
    )
  }
  if (faults.length === 0) return
  throw new DomainError("STORE_AUTH", `row-level security would not hold: ${faults.join("; ")}`, {
    metadata: { faults: faults.join("; ") },
  })
}
