/** Every table of the schema that holds rows of tenants, found in the catalogue: what another plane adds is covered at once. */
import { CERTIFY_ERASURE } from "../../domain/control/certificate.ts"
import { RECORD_AUDIT } from "../../domain/outbox/audit-relay.ts"
import type { Tx } from "./database.ts"

/** A table, quoted for use in a statement, and those it refers to. */
interface TenantTable {
  readonly oid: string
  readonly name: string
  readonly refers: readonly string[]
}

// The audit log outlives its tenant, and so do the entries of the outbox that are on their way into it.
const KEPT = ["audit_records", "audit_days", "audit_chains", "outbox", "idempotency"]
/** Kept answers of callers go with their tenant; these keep the daemon itself from writing an audit record twice. */
const KEPT_ANSWERS = [RECORD_AUDIT, CERTIFY_ERASURE]
/** Say nothing about whether a tenant is in use. */
const INCIDENTAL = ["sagas"]

/** Rows that stay for now: a job that is being moved would come to be elsewhere after its tenant was looked for there. */
const STAYING: Readonly<Record<string, string>> = { "keelplane.jobs": "moving_until > statement_timestamp()" }

const TABLES = `select c.oid::text as oid, format('%I.%I', n.nspname, c.relname) as name,
    coalesce((select array_agg(f.confrelid::text) from pg_constraint f
      where f.conrelid = c.oid and f.contype = 'f' and f.confrelid <> c.oid), '{}') as refers
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped
  where n.nspname = 'keelplane' and c.relkind in ('r', 'p') and not c.relispartition and c.relname <> all ($1::text[])
    and has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'delete')
  order by c.relname`

/** Whether any table holds a row of `tenant`. */
export async function hasTenantRows(tx: Tx, tenant: string): Promise<boolean> {
  const tables = await tenantTables(tx, [...KEPT, ...INCIDENTAL])
  const checks = tables.map(({ name }) => `exists (select from ${name} where tenant = $1)`)
  if (checks.length === 0) return false
  const { rows } = await tx.query<{ held: boolean }>({
    text: `select ${checks.join(" or ")} as held`,
    values: [tenant],
  })
  return rows[0]?.held === true
}

/** Deletes every row of `tenant`, referring tables before those they refer to. Answers how many. */
export async function deleteTenantRows(tx: Tx, tenant: string): Promise<bigint> {
  const gone = await eraseTenantRows(tx, tenant)
  return gone.reduce((sum, { count }) => sum + BigInt(count), 0n)
}

/** {@link deleteTenantRows}, answering how many per table, empty ones left out. */
export async function eraseTenantRows(
  tx: Tx,
  tenant: string,
): Promise<readonly { readonly table: string; readonly count: number }[]> {
  const gone: { table: string; count: number }[] = []
  for (const { name } of referringFirst(await tenantTables(tx, KEPT))) {
    const staying = STAYING[name]
    const going = staying === undefined ? "" : ` and (${staying}) is not true`
    const { count } = await tx.query({
      text: `delete from ${name} where tenant = $1${going}`,
      values: [tenant],
    })
    if (count > 0) gone.push({ table: name.slice(name.indexOf(".") + 1), count })
  }
  const answers = await forgetAnswers(tx, tenant)
  if (answers > 0) gone.push({ table: "idempotency", count: answers })
  return gone
}

/** Removes the answers kept for callers who repeat themselves: to a later tenant of the same name they would be lies. */
export async function forgetAnswers(tx: Tx, tenant: string): Promise<number> {
  const { count } = await tx.query({
    text: "delete from keelplane.idempotency where tenant = $1 and method <> all ($2::text[])",
    values: [tenant, KEPT_ANSWERS],
  })
  return count
}

async function tenantTables(tx: Tx, leftOut: readonly string[]): Promise<readonly TenantTable[]> {
  const { rows } = await tx.query<TenantTable>({ name: "kp_tenant_tables", text: TABLES, values: [leftOut] })
  return rows
}

function referringFirst(tables: readonly TenantTable[]): TenantTable[] {
  const byOid = new Map(tables.map((table) => [table.oid, table]))
  const placed = new Set<string>()
  const order: TenantTable[] = []
  const place = (table: TenantTable): void => {
    if (placed.has(table.oid)) return
    placed.add(table.oid)
    for (const other of table.refers) {
      const referred = byOid.get(other)
      if (referred !== undefined) place(referred)
    }
    order.unshift(table)
  }
  for (const table of tables) place(table)
  return order
}
