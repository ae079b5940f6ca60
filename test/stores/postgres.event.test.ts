import { after } from "node:test"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import { eventContract } from "../contract/event.contract.ts"
import { eventLogContract } from "../contract/event-log.contract.ts"
import type { EventHarness } from "../contract/event-support.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

after(async () => (await sharedEmbeddedDatabase()).close())

async function make(): Promise<EventHarness> {
  const { database } = await sharedEmbeddedDatabase()
  let now = Date.now()
  const clock = {
    now: () => now,
    set: (ms: number) => {
      now = ms
    },
    advance: (ms: number) => {
      now += ms
    },
  }
  return { store: createPostgresEventStore(database, { clock, concurrency: 1 }), freshTenant, clock }
}

eventContract(make)
eventLogContract(make)
