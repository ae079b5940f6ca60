import type { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { jobContract } from "../contract/job.contract.ts"
import { jobQueueContract } from "../contract/job-queue.contract.ts"
import { jobClassesContract } from "../contract/retention.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  const make = async (retentionMs?: ByTenant<number>) => {
    const clock = heldClock()
    const { database } = await open()
    return { store: createPostgresJobStore(database, { clock, retentionMs }), freshTenant, clock }
  }
  jobContract(make)
  jobQueueContract(make)
  jobClassesContract(make)
})
