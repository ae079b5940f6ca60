/** Classes of tenants whose data is kept for other times. */
import { z } from "zod"
import { count } from "./forms.ts"

/** Part of the names of tables, of which Cassandra takes 48 characters. */
const NAME = /^(?=.{1,24}$)[a-z][a-z0-9]*(_[a-z0-9]+)*$/
const TENANTS = /^(?:[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?|[a-z0-9][a-z0-9_-]{0,61}\*)$/

const retentionClass = z
  .strictObject({
    tenants: z
      .array(z.string().regex(TENANTS, "must be a tenant's id, or the beginning of ids with `*` behind it"))
      .min(1)
      .describe(
        "Who is in it: ids of tenants, or beginnings of ids with `*` behind them, e.g. `trial-*`. No tenant may be in two classes.",
      ),
    sessions_days: count(1, 36_500).optional().describe("Instead of retention.sessions_days."),
    jobs_days: count(1, 36_500).optional().describe("Instead of retention.jobs_days."),
    audit_years: count(7, 100).optional().describe("Instead of retention.audit_years."),
  })
  .describe("How long data of some tenants is kept. What it does not say is as for all others.")

/** The section `retention.classes`. */
export const retentionClasses = z
  .record(
    z.string().regex(NAME, "must be 1 to 24 of a-z, 0-9 and single `_`, beginning with a letter"),
    retentionClass,
  )
  .default({})
  .describe(
    "Classes of tenants by name. A class that is renamed is another class. On Cassandra each has tables of its own for finished jobs.",
  )

/** Two classes that share tenants. */
export interface SharedTenants {
  readonly name: string
  readonly other: string
  /** As the first of them has it. */
  readonly tenants: string
}

/** The classes that share tenants with one before them. */
export function sharedTenants(
  classes: Readonly<Record<string, { readonly tenants: readonly string[] }>>,
): readonly SharedTenants[] {
  const listed = Object.entries(classes)
  return listed.flatMap(([name, { tenants }], at) =>
    listed.slice(0, at).flatMap(([other, own]) => {
      const shared = tenants.find((one) => own.tenants.some((another) => overlap(one, another)))
      return shared === undefined ? [] : [{ name, other, tenants: shared }]
    }),
  )
}

function overlap(one: string, another: string): boolean {
  return covers(one, another) || covers(another, one)
}

function covers(pattern: string, other: string): boolean {
  return pattern.endsWith("*") ? other.startsWith(pattern.slice(0, -1)) : pattern === other
}
