import { after } from "node:test"
import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { jobContract } from "../contract/job.contract.ts"
import { jobQueueContract } from "../contract/job-queue.contract.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

after(async () => (await sharedEmbeddedDatabase()).close())

async function make() {
  const { database } = await sharedEmbeddedDatabase()
  let now = Date.now()
  const clock = {
    now: () => now,
    advance: (ms: number) => {
      now += ms
    },
  }
  return { store: createPostgresJobStore(database, { clock }), freshTenant, clock }
}

jobContract(make)
jobQueueContract(make)
