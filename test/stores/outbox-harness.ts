import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { Database } from "../../src/stores/postgres/index.ts"
import { appendOutbox } from "../../src/stores/postgres/outbox-append.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import type { OutboxHarness } from "../contract/outbox-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock } from "../engines/sql-suites.ts"

/** The outbox of an SQL database, for the suites. */
export function outboxHarness(database: Database): OutboxHarness {
  const clock = heldClock()
  return {
    another: () => createPostgresOutboxStore(database, { clock }),
    add: async (entries, fail) => {
      const [first] = entries
      if (first === undefined) return
      await database.transaction(systemScope(first.tenant), async (tx) => {
        appendOutbox(tx, entries)
        if (fail !== undefined) throw fail
      })
    },
    freshTenant,
    clock,
  }
}
