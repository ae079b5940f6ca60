import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { AUDIT_TOPIC, auditHandler } from "../../src/domain/outbox/audit-relay.ts"
import { createOutboxSignals } from "../../src/domain/outbox/signals.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import { sweepIdempotency } from "../../src/stores/postgres/index.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { DAY_MS, queryAll } from "../contract/audit-support.ts"
import { type OutboxAuditHarness, outboxAuditContract } from "../contract/outbox-audit.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"
import { outboxHarness } from "./outbox-harness.ts"

const USER = { displayName: "Ada", email: "", labels: {}, disabled: false }

onSqlEngines((open) => {
  outboxAuditContract(async (): Promise<OutboxAuditHarness> => {
    const { database } = await open()
    const clock = heldClock()
    return {
      outbox: outboxHarness(database),
      audit: { store: createPostgresAuditStore(database, { clock }), freshTenant, clock },
      forget: async () => {
        await sweepIdempotency(database, Date.now() + 2 * DAY_MS, 100_000)
      },
    }
  })

  describe("changes of the control plane whose audit log is elsewhere", () => {
    it("owe their record to the outbox, or nothing when they are refused", async () => {
      const { database } = await open()
      const clock = heldClock()
      const signals = createOutboxSignals()
      const listener = signals.listen(AUDIT_TOPIC)
      const users = createUserStore({ database, clock, auditOutbox: signals })
      const audit = createPostgresAuditStore(database, { clock })
      const scope = systemScope(freshTenant())
      await users.create(scope, "ada", USER)
      assert.equal(await listener.wait(0, scope.signal), "woken")
      await assert.rejects(users.create(scope, "ada", USER), DomainError)
      assert.equal(await listener.wait(0, scope.signal), "elapsed")
      listener.close()
      assert.deepEqual(await queryAll(audit, scope), [])
      const outbox = createPostgresOutboxStore(database)
      const claim = { topic: AUDIT_TOPIC, max: 100, maxBytes: 1e6, leaseMs: 60_000 }
      const batch = await outbox.claim(systemScope(), claim)
      assert.equal(batch.entries.length, 1)
      await auditHandler(audit, () => Date.now())(systemScope(), batch)
      await outbox.settle(systemScope(), batch, { done: batch.entries.map(({ id }) => id) })
      const [record, ...others] = await queryAll(audit, scope)
      assert.equal(others.length, 0)
      assert.deepEqual(
        [record?.action, record?.resourceType, record?.resourceId, record?.timeMs, record?.actor],
        ["CreateUser", "user", "ada", clock.now(), "system"],
      )
    })
  })
})
