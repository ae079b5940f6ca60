import { createSagaStore } from "../../src/stores/postgres/saga-store.ts"
import { sagaContract } from "../contract/saga.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  sagaContract(async () => {
    const clock = heldClock()
    const { database } = await open()
    return { store: createSagaStore({ database, clock }), freshTenant, clock }
  })
})
