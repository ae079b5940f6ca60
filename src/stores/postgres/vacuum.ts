/** What autovacuum does on a server, for PGlite, which has no background workers. */
import { encode } from "./exchange.ts"
import type { Session } from "./session.ts"

/** One step of {@link vacuumStep}. The shape that bootstrap's sweepers answer. */
export interface VacuumStep {
  /** Dead rows that the step reclaimed. */
  readonly removed: number
  /** Whether another table waits. */
  readonly more: boolean
}

/** Autovacuum's own defaults: 50 rows and a fifth (dead) or a tenth (changed) of the table. */
const DUE = `select format('%I.%I', schemaname, relname) as table, n_dead_tup as dead
  from pg_stat_user_tables
  where schemaname = 'keelplane'
    and (n_dead_tup > 50 + 0.2 * n_live_tup or n_mod_since_analyze > 50 + 0.1 * n_live_tup)
  order by n_dead_tup desc limit 2`

/** Vacuums and analyses the table that needs it most, if any does; one table, so that others get the connection between. */
export async function vacuumStep(session: Session): Promise<VacuumStep> {
  // Without a background process nobody but us moves the counters to where the view reads them.
  await session.run([encode({ text: "select pg_stat_force_next_flush()" })])
  const [due] = await session.run([encode({ text: DUE })])
  const [first, second] = due?.rows ?? []
  if (first === undefined) return { removed: 0, more: false }
  await session.script(`vacuum (analyze) ${String(first.table)}`)
  return { removed: Number(first.dead), more: second !== undefined }
}
