/** The event suites on PGlite and, where a URL names one, on a PostgreSQL server. */
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { eventContract } from "../contract/event.contract.ts"
import { eventDaemonsContract } from "../contract/event-daemons.contract.ts"
import { eventLogContract } from "../contract/event-log.contract.ts"
import type { EventHarness } from "../contract/event-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines } from "../engines/sql-suites.ts"

function movableClock() {
  let now = Date.now()
  return {
    now: () => now,
    set: (ms: number) => {
      now = ms
    },
    advance: (ms: number) => {
      now += ms
    },
  }
}

onSqlEngines((open: () => Promise<SqlEngine>) => {
  const make = async (): Promise<EventHarness> => {
    const { database, capabilities } = await open()
    const clock = movableClock()
    const { concurrency } = capabilities
    const another = () => createPostgresEventStore(database, { clock, concurrency })
    return { store: another(), another, freshTenant, clock }
  }
  eventContract(make)
  eventLogContract(make)
  eventDaemonsContract(make)
})
