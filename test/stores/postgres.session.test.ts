/** The session suite on PGlite and on PostgreSQL servers. */
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresSessionStore } from "../../src/stores/postgres/session-store.ts"
import { type SessionHarness, sessionContract } from "../contract/session.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open: () => Promise<SqlEngine>) => {
  sessionContract(async (): Promise<SessionHarness> => {
    const { database, capabilities } = await open()
    const clock = heldClock()
    const { concurrency } = capabilities
    return { store: createPostgresSessionStore(database, { clock, concurrency }), freshTenant, clock }
  })
})
