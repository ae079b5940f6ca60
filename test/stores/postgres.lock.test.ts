import { createPostgresLockStore } from "../../src/stores/postgres/lock-store.ts"
import { lockContract } from "../contract/lock.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  lockContract(async () => {
    const clock = heldClock()
    const { database } = await open()
    return { store: createPostgresLockStore(database, { clock }), freshTenant, clock }
  })
})
