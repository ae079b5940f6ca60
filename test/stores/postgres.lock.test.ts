import { after } from "node:test"
import { createPostgresLockStore } from "../../src/stores/postgres/lock-store.ts"
import { lockContract } from "../contract/lock.contract.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

after(async () => (await sharedEmbeddedDatabase()).close())

lockContract(async () => {
  const { database } = await sharedEmbeddedDatabase()
  let now = Date.now()
  const clock = {
    now: () => now,
    advance: (ms: number) => {
      now += ms
    },
  }
  return { store: createPostgresLockStore(database, { clock }), freshTenant, clock }
})
