/** Audit records that come through an outbox, over any outbox and any audit store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { AUDIT_TOPIC, auditHandler, auditOutboxEntry } from "../../src/domain/outbox/audit-relay.ts"
import type { OutboxEntry } from "../../src/domain/outbox/model.ts"
import { Relay } from "../../src/domain/outbox/relay.ts"
import { createOutboxSignals } from "../../src/domain/outbox/signals.ts"
import { type AuditHarness, DAY_MS, entry, queryAll } from "./audit-support.ts"
import type { OutboxHarness } from "./outbox-support.ts"

/** The two stores. */
export interface OutboxAuditHarness {
  readonly outbox: OutboxHarness
  readonly audit: AuditHarness
  /** Has the audit store forget the request_ids that it has seen, as it may after a day. */
  forget(): Promise<void>
}

const TIME_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 6)

/** Registers the suite. */
export function outboxAuditContract(make: () => Promise<OutboxAuditHarness>): void {
  describe("audit records through the outbox", () => {
    let harness: OutboxAuditHarness
    before(async () => {
      harness = await make()
    })
    const change = (tenant: TenantId, n: number) =>
      auditOutboxEntry(tenant, entry({ action: `change-${n}`, details: { n, ü: ["\n"] } }), TIME_MS + n)
    const recorded = async (tenant: TenantId) =>
      [...(await queryAll(harness.audit.store, systemScope(tenant)))].reverse()
    const handler = (ageMs = 0) => auditHandler(harness.audit.store, () => Date.now() + ageMs)
    const claimed = async (): Promise<{ topic: string; fence: bigint; entries: readonly OutboxEntry[] }> =>
      harness.outbox
        .another()
        .claim(systemScope(), { topic: AUDIT_TOPIC, max: 100, maxBytes: 1e6, leaseMs: 60_000 })

    it("records every change once, with its own id and time, in the order of its tenant", async () => {
      const tenants = [harness.outbox.freshTenant(), harness.outbox.freshTenant()]
      const opIds = new Map<TenantId, string[]>()
      for (let n = 0; n < 20; n++) {
        for (const tenant of tenants) {
          const added = change(tenant, n)
          opIds.set(tenant, [...(opIds.get(tenant) ?? []), added.opId])
          await harness.outbox.add([added])
        }
      }
      const relays = [1, 2].map(
        () =>
          new Relay({
            store: harness.outbox.another(),
            signals: createOutboxSignals(),
            topics: [{ topic: AUDIT_TOPIC, handle: handler(), batch: 7 }],
            logger: silentLogger,
            pollMs: [5, 10],
          }),
      )
      for (const relay of relays) relay.start()
      const end = performance.now() + 60_000
      for (const tenant of tenants) {
        while ((await recorded(tenant)).length < 20) {
          assert.ok(performance.now() < end, "not all changes were recorded")
          await new Promise((resolve) => setTimeout(resolve, 10))
        }
      }
      await Promise.all(relays.map((relay) => relay.stop()))
      for (const tenant of tenants) {
        const records = await recorded(tenant)
        assert.deepEqual(
          records.map(({ id }) => id),
          opIds.get(tenant),
        )
        assert.deepEqual(
          records.map(({ timeMs }) => timeMs),
          records.map((_, n) => TIME_MS + n),
        )
        const verdict = await verifyAudit(systemScope(tenant), harness.audit.store, { maxDays: 9 })
        assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, 20n])
      }
    })

    it("records nothing twice when a delivery is repeated, wholly or in other parts, even days later", async () => {
      const tenant = harness.outbox.freshTenant()
      await harness.outbox.add([change(tenant, 0), change(tenant, 1), change(tenant, 2)])
      const batch = await claimed()
      const scope = systemScope()
      await handler()(scope, batch)
      await handler()(scope, batch)
      await handler()(scope, { ...batch, entries: batch.entries.slice(1) })
      await harness.forget()
      await handler(3 * DAY_MS)(scope, batch)
      assert.equal((await recorded(tenant)).length, 3)
      await harness.outbox.another().settle(scope, batch, { done: batch.entries.map(({ id }) => id) })
    })
  })
}
