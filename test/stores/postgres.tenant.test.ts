/** The end of a tenant in a database. */
import assert from "node:assert/strict"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import { createTenantEraser } from "../../src/stores/postgres/index.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { AGENT, USER } from "../contract/control-support.ts"
import { append, event, readAll, readWholeFeed } from "../contract/event-support.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  tenantEraserContract(async () => {
    const { database, capabilities } = await open()
    const clock = heldClock()
    const events = createPostgresEventStore(database, { clock, concurrency: capabilities.concurrency })
    const users = createUserStore({ database, clock })
    const agents = createAgentStore({ database, clock })
    return {
      eraser: createTenantEraser(database, "memory+events+control"),
      freshTenant,
      fill: async (scope) => {
        await append(events, scope, "s", [event(), event()], { kind: "no_stream" })
        await append(events, scope, "gone", [event()], { kind: "no_stream" })
        await events.deleteStream(scope, "gone", undefined)
        await users.create(scope, "u", USER)
        await agents.create(scope, "a", AGENT)
      },
      check: async (scope) => {
        const found = await readAll(events, scope, "s")
        assert.deepEqual(
          found.map(({ revision }) => revision),
          [1n, 2n],
        )
        assert.equal((await readWholeFeed(events, scope)).length, 2)
        await users.get(scope, "u")
        await agents.get(scope, "a")
      },
    }
  })
})
