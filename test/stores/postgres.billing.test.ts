import assert from "node:assert/strict"
import { it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { createBudgetStore } from "../../src/stores/postgres/budget-store.ts"
import { createUsageStore } from "../../src/stores/postgres/usage-store.ts"
import { type BillingHarness, billingContract } from "../contract/billing.contract.ts"
import { rejects } from "../contract/control-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines } from "../engines/sql-suites.ts"

onSqlEngines((open) => {
  const make = async (): Promise<BillingHarness> => {
    const { database } = await open()
    const clock = noon()
    const deps = { database, clock }
    return { usage: createUsageStore(deps), budgets: createBudgetStore(deps), freshTenant, clock }
  }
  billingContract(make)
  refusesAfterClose(make)
  raceOfDaemons(make)
})

/** Stands still in the middle of a day of UTC. */
function noon(): BillingHarness["clock"] {
  let now = Date.UTC(2026, 5, 15, 12)
  return {
    now: () => now,
    advance: (ms) => {
      now += ms
    },
  }
}

function used(eventId: string) {
  const subject = { agentId: "", userId: "", sessionId: "" }
  return { eventId, meter: "m", quantity: "1", eventTime: undefined, subject, dimensions: {} }
}

function refusesAfterClose(make: () => Promise<BillingHarness>): void {
  it("refuses usage after close, having recorded what waited", async () => {
    const { usage } = await make()
    const scope = systemScope(freshTenant())
    const waiting = usage.record(scope, [used("a")])
    await usage.close()
    assert.deepEqual(await waiting, { recorded: 1, duplicates: 0 })
    await rejects(usage.record(scope, [used("a")]), "DRAINING")
  })
}

/** Each store has a group commit of its own, as each daemon on one database has. */
function raceOfDaemons(make: () => Promise<BillingHarness>): void {
  it("counts an id once when several daemons record it", async () => {
    const daemons = await Promise.all(Array.from({ length: 4 }, make))
    const scope = systemScope(freshTenant())
    const ids = Array.from({ length: 20 }, (_, at) => `e${at}`)
    const calls = daemons.flatMap(({ usage }, at) =>
      Array.from({ length: 5 }, () => usage.record(scope, (at % 2 === 0 ? ids : ids.toReversed()).map(used))),
    )
    const results = await Promise.all(calls)
    assert.equal(
      results.reduce((sum, { recorded }) => sum + recorded, 0),
      ids.length,
    )
    const [first] = daemons
    const subject = { kind: "", id: "" } as const
    const budget = {
      id: "b",
      meter: "m",
      period: "TOTAL",
      limit: "99",
      hard: true,
      subject,
      thresholds: [],
    } as const
    await first?.budgets.set(scope, budget)
    assert.equal((await first?.budgets.get(scope, "b"))?.status.used, String(ids.length))
  })
}
