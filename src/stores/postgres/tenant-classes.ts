/** Values that differ between classes of tenants, in statements about all tenants. */
import type { ByTenant } from "../../domain/kernel/tenant-classes.ts"

/** The classes as two arrays: tenants, and the value of each. */
export function classColumns<T>({ classes }: ByTenant<T>): readonly [tenants: string[], values: T[]] {
  const rows = classes.flatMap(({ tenants, value }) => tenants.map((own) => [own, value] as const))
  return [rows.map(([tenants]) => tenants), rows.map(([, value]) => value)]
}

/** The value of a tenant's class, null for one in none; the arguments are SQL, the latter two the arrays. */
export function classValueSql(tenant: string, tenants: string, values: string): string {
  return `(select c.value from unnest(${tenants}, ${values}) as c(tenants, value)
    where c.tenants = ${tenant} or (right(c.tenants, 1) = '*' and starts_with(${tenant}, left(c.tenants, -1))) limit 1)`
}
