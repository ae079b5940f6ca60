import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { jobContract } from "../contract/job.contract.ts"
import { jobQueueContract } from "../contract/job-queue.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  const make = async () => {
    const clock = heldClock()
    const { database } = await open()
    return { store: createPostgresJobStore(database, { clock }), freshTenant, clock }
  }
  jobContract(make)
  jobQueueContract(make)
})
