import { after } from "node:test"
import { createPostgresSessionStore } from "../../src/stores/postgres/session-store.ts"
import { type SessionHarness, sessionContract } from "../contract/session.contract.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

after(async () => (await sharedEmbeddedDatabase()).close())

async function make(): Promise<SessionHarness> {
  const { database } = await sharedEmbeddedDatabase()
  let now = Date.now()
  const clock = {
    now: () => now,
    advance: (ms: number) => {
      now += ms
    },
  }
  return { store: createPostgresSessionStore(database, { clock, concurrency: 1 }), freshTenant, clock }
}

sessionContract(make)
