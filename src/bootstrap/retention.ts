/** How long data is kept, by the classes of tenants that the configuration has. */
import type { Config } from "../config/schema.ts"
import type { JobLife } from "../domain/event/job-history.ts"
import { ByTenant } from "../domain/kernel/tenant-classes.ts"

const DAY_MS = 86_400_000

/** A setting that classes may have for themselves. */
export function retentionOf(
  { retention }: Config,
  key: "sessions_days" | "jobs_days" | "audit_years",
): ByTenant<number> {
  const classes = Object.entries(retention.classes).map(([name, own]) => {
    return { name, tenants: own.tenants, value: own[key] ?? retention[key] }
  })
  return new ByTenant(retention[key], classes)
}

/** The same in milliseconds. */
export function retentionMs(config: Config, key: "sessions_days" | "jobs_days"): ByTenant<number> {
  return retentionOf(config, key).map((days) => days * DAY_MS)
}

/** For the history of jobs, in which each class is by itself. */
export function jobLives(config: Config): ByTenant<JobLife> {
  const { others, classes } = retentionMs(config, "jobs_days")
  return new ByTenant<JobLife>(
    { ms: others },
    classes.map(({ name, tenants, value: ms }) => ({ name, tenants, value: { className: name, ms } })),
  )
}
