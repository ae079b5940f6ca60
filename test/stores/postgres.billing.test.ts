import assert from "node:assert/strict"
import { after, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { createBudgetStore } from "../../src/stores/postgres/budget-store.ts"
import { createUsageStore } from "../../src/stores/postgres/usage-store.ts"
import { type BillingHarness, billingContract } from "../contract/billing.contract.ts"
import { rejects } from "../contract/control-support.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

after(async () => (await sharedEmbeddedDatabase()).close())

async function make(): Promise<BillingHarness> {
  const { database } = await sharedEmbeddedDatabase()
  let now = Date.UTC(2026, 5, 15, 12)
  const clock = {
    now: () => now,
    advance: (ms: number) => {
      now += ms
    },
  }
  const deps = { database, clock }
  return { usage: createUsageStore(deps), budgets: createBudgetStore(deps), freshTenant, clock }
}

billingContract(make)

it("refuses usage after close, having recorded what waited", async () => {
  const { usage } = await make()
  const scope = systemScope(freshTenant())
  const one = {
    eventId: "a",
    meter: "m",
    quantity: "1",
    eventTime: undefined,
    subject: { agentId: "", userId: "", sessionId: "" },
    dimensions: {},
  }
  const waiting = usage.record(scope, [one])
  await usage.close()
  assert.deepEqual(await waiting, { recorded: 1, duplicates: 0 })
  await rejects(usage.record(scope, [one]), "DRAINING")
})
