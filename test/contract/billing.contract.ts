/** Usage, budgets and reservations, over any store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import type { BudgetFields, UsageEvent, UsageQuery, UsageSubject } from "../../src/domain/billing/model.ts"
import type { BudgetStore, ReserveInput, UsageStore } from "../../src/domain/billing/ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { drain, rejects, withRequestId } from "./control-support.ts"

/** The stores under test. */
export interface BillingHarness {
  readonly usage: UsageStore
  readonly budgets: BudgetStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the stores see it; moves only here. Must begin well inside a UTC day. */
  readonly clock: { now(): number; advance(ms: number): void }
}

const NOBODY: UsageSubject = { agentId: "", userId: "", sessionId: "" }
const DAY_MS = 86_400_000

function event(eventId: string, quantity: string, fields: Partial<UsageEvent> = {}): UsageEvent {
  return { eventId, meter: "m", quantity, eventTime: undefined, subject: NOBODY, dimensions: {}, ...fields }
}

function query(fields: Partial<UsageQuery> = {}): UsageQuery {
  const open = { startTime: undefined, endTime: undefined, period: undefined, uniqueBy: undefined }
  return { meter: "m", aggregation: "SUM", ...open, groupBy: [], subject: NOBODY, dimensions: {}, ...fields }
}

function budget(fields: Partial<BudgetFields> = {}): BudgetFields {
  const subject = { kind: "", id: "" } as const
  return { id: "b", meter: "m", period: "TOTAL", limit: "10", hard: true, subject, thresholds: [], ...fields }
}

/** Registers the suite. */
export function billingContract(make: () => Promise<BillingHarness>): void {
  describe("billing: recording", () => recording(make))
  describe("billing: aggregates", () => aggregates(make))
  describe("billing: budgets", () => budgets(make))
  describe("billing: reservations", () => reservations(make))
}

/** The one value of a query without groups and periods; "0" for no row. */
async function total(usage: UsageStore, scope: CallScope, fields: Partial<UsageQuery> = {}): Promise<string> {
  const { items } = await usage.aggregate(scope, query(fields), { size: 10 })
  assert.ok(items.length <= 1)
  return items[0]?.value ?? "0"
}

function recording(make: () => Promise<BillingHarness>): void {
  let harness: BillingHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
  })

  it("adds exactly what floating point cannot", async () => {
    const own = systemScope(harness.freshTenant())
    const events = Array.from({ length: 500 }, (_, at) =>
      event(`e${at}`, at % 2 === 0 ? "0.1" : "0.000000001"),
    )
    assert.deepEqual(await harness.usage.record(own, events), { recorded: 500, duplicates: 0 })
    await harness.usage.record(own, [event("huge", "999999999999999999")])
    assert.equal(await total(harness.usage, own), "1000000000000000024.00000025")
  })

  it("counts an id once, however often and beside whatever it comes", async () => {
    const first = [event("a", "1.50"), event("b", "2"), event("a", "1.5")]
    assert.deepEqual(await harness.usage.record(scope, first), { recorded: 2, duplicates: 1 })
    const second = [event("b", "2.000"), event("c", "4")]
    assert.deepEqual(await harness.usage.record(scope, second), { recorded: 1, duplicates: 1 })
    assert.equal(await total(harness.usage, scope), "7.5")
    await harness.usage.record(scope, [event("A", "100")])
    assert.equal(await total(harness.usage, scope), "107.5")
  })

  it("refuses other content under an id, with all of its batch", async () => {
    const own = systemScope(harness.freshTenant())
    const given = event("a", "1", {
      eventTime: 1_000,
      subject: { ...NOBODY, userId: "u" },
      dimensions: { k: "v" },
    })
    await harness.usage.record(own, [given])
    const others: Partial<UsageEvent>[] = [
      { quantity: "2" },
      { meter: "n" },
      { eventTime: 2_000 },
      { eventTime: undefined },
      { subject: { ...NOBODY, agentId: "u" } },
      { dimensions: { k: "w" } },
    ]
    for (const other of others) {
      const error = await rejects(
        harness.usage.record(own, [event("new", "1"), { ...given, ...other }]),
        "INVALID_FIELD",
      )
      assert.equal(error.violations[0]?.field, "events[1].event_id")
    }
    await rejects(harness.usage.record(own, [event("x", "1"), event("x", "2")]), "INVALID_FIELD")
    assert.equal(await total(harness.usage, own, { aggregation: "COUNT" }), "1")
  })

  it("counts once what many send at the same time, and lets a bad batch hurt only itself", async () => {
    const own = systemScope(harness.freshTenant())
    const calls = Array.from({ length: 50 }, (_, at) =>
      harness.usage.record(own, [event("shared", "1"), event(`own${at}`, "1")]),
    )
    const bad = harness.usage.record(own, [event("bad", "1"), event("shared", "2")])
    await rejects(bad, "INVALID_FIELD")
    const results = await Promise.all(calls)
    assert.equal(
      results.reduce((sum, { recorded }) => sum + recorded, 0),
      51,
    )
    assert.equal(
      results.reduce((sum, { duplicates }) => sum + duplicates, 0),
      49,
    )
    assert.equal(await total(harness.usage, own), "51")
  })

  it("answers a repeated request as before", async () => {
    const own = systemScope(harness.freshTenant())
    const request = withRequestId(own, "BillingService/RecordUsage", "r", 1)
    const first = await harness.usage.record(request, [event("a", "1")])
    assert.deepEqual(first, { recorded: 1, duplicates: 0 })
    assert.deepEqual(await harness.usage.record(request, [event("a", "1")]), first)
    const other = withRequestId(own, "BillingService/RecordUsage", "r", 2)
    await rejects(harness.usage.record(other, [event("b", "1")]), "REQUEST_ID_REUSED")
    assert.equal(await total(harness.usage, own), "1")
  })

  it("keeps ids of tenants apart, and does nothing for a call that is over", async () => {
    const [mine, theirs] = [systemScope(harness.freshTenant()), systemScope(harness.freshTenant())]
    await harness.usage.record(theirs, [event("a", "5")])
    assert.deepEqual(await harness.usage.record(mine, [event("a", "7")]), { recorded: 1, duplicates: 0 })
    assert.equal(await total(harness.usage, mine), "7")
    await rejects(
      harness.usage.record({ ...mine, deadlineMs: Date.now() - 1 }, [event("late", "1")]),
      "DEADLINE_EXCEEDED",
    )
    const gone = { ...mine, signal: AbortSignal.abort() }
    await rejects(harness.budgets.set(gone, budget()), "CANCELLED")
    await rejects(harness.budgets.get(mine, "b"), "NOT_FOUND")
    assert.equal(await total(harness.usage, mine), "7")
  })
}

function aggregates(make: () => Promise<BillingHarness>): void {
  const noon = Date.UTC(2024, 1, 29, 12)
  let harness: BillingHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
    const at = (hours: number) => noon + hours * 3_600_000
    const by = (userId: string) => ({ ...NOBODY, userId })
    await harness.usage.record(scope, [
      event("1", "1", { eventTime: at(0), subject: by("u"), dimensions: { model: "x", region: "eu" } }),
      event("2", "2", { eventTime: at(0.99), subject: by("u"), dimensions: { model: "y" } }),
      event("3", "4", { eventTime: at(1), subject: by("v"), dimensions: { model: "x" } }),
      event("4", "8", { eventTime: at(12), subject: by("v"), dimensions: {} }),
      event("5", "16", { eventTime: at(24 * 31), dimensions: { model: "x" } }),
      event("other", "1000", { meter: "n", eventTime: at(0) }),
    ])
    // Late, after everything else.
    await harness.usage.record(scope, [event("0", "0.5", { eventTime: at(0.5), dimensions: { model: "x" } })])
  })

  it("combines by sum, count, maximum and distinct values", async () => {
    assert.equal(await total(harness.usage, scope), "31.5")
    assert.equal(await total(harness.usage, scope, { aggregation: "COUNT" }), "6")
    assert.equal(await total(harness.usage, scope, { aggregation: "MAX" }), "16")
    const uniqueBy = { kind: "dimension", key: "model" } as const
    assert.equal(await total(harness.usage, scope, { aggregation: "UNIQUE_COUNT", uniqueBy }), "2")
    const users = { kind: "user" } as const
    assert.equal(await total(harness.usage, scope, { aggregation: "UNIQUE_COUNT", uniqueBy: users }), "2")
    assert.deepEqual((await harness.usage.aggregate(scope, query({ meter: "none" }), { size: 5 })).items, [])
  })

  it("takes the start in and leaves the end out, and filters", async () => {
    const range = { startTime: noon, endTime: noon + 3_600_000 }
    assert.equal(await total(harness.usage, scope, range), "3.5")
    assert.equal(await total(harness.usage, scope, { ...range, subject: { ...NOBODY, userId: "u" } }), "3")
    assert.equal(await total(harness.usage, scope, { dimensions: { model: "x" } }), "21.5")
    assert.equal(await total(harness.usage, scope, { dimensions: { model: "x", region: "eu" } }), "1")
  })

  it("cuts time into hours, days and months of UTC", async () => {
    const rows = async (period: "HOUR" | "DAY" | "MONTH") => {
      const { items } = await harness.usage.aggregate(scope, query({ period }), { size: 50 })
      return items.map(({ startTime, value }) => [new Date(startTime ?? 0).toISOString().slice(0, 13), value])
    }
    assert.deepEqual(await rows("HOUR"), [
      ["2024-02-29T12", "3.5"],
      ["2024-02-29T13", "4"],
      ["2024-03-01T00", "8"],
      ["2024-03-31T12", "16"],
    ])
    assert.deepEqual(await rows("DAY"), [
      ["2024-02-29T00", "7.5"],
      ["2024-03-01T00", "8"],
      ["2024-03-31T00", "16"],
    ])
    assert.deepEqual(await rows("MONTH"), [
      ["2024-02-01T00", "7.5"],
      ["2024-03-01T00", "24"],
    ])
  })

  it("groups by any mix, page by page", async () => {
    const groupBy = [{ kind: "dimension", key: "model" }, { kind: "user" }] as const
    const rows = await drain(
      (page) => harness.usage.aggregate(scope, query({ period: "MONTH", groupBy }), page),
      2,
    )
    assert.deepEqual(
      rows.map(({ startTime, groups, value }) => [
        new Date(startTime ?? 0).getUTCMonth() + 1,
        ...groups,
        value,
      ]),
      [
        [2, "x", "", "0.5"],
        [2, "x", "u", "1"],
        [2, "x", "v", "4"],
        [2, "y", "u", "2"],
        [3, "", "v", "8"],
        [3, "x", "", "16"],
      ],
    )
    assert.equal(
      rows.reduce((sum, { events }) => sum + events, 0n),
      6n,
    )
  })
}

function budgets(make: () => Promise<BillingHarness>): void {
  let harness: BillingHarness
  before(async () => {
    harness = await make()
  })

  it("keeps a budget as set, replaces it at its revision, and deletes it", async () => {
    const scope = systemScope(harness.freshTenant())
    const created = await harness.budgets.set(scope, budget({ thresholds: [50, 90] }), 0n)
    assert.equal(created.revision, 1n)
    await rejects(harness.budgets.set(scope, budget(), 0n), "REVISION_MISMATCH")
    const replaced = await harness.budgets.set(scope, budget({ limit: "20", period: "DAY", hard: false }), 1n)
    assert.deepEqual(
      [replaced.revision, replaced.limit, replaced.period, replaced.hard],
      [2n, "20", "DAY", false],
    )
    assert.deepEqual((await harness.budgets.get(scope, "b")).budget, replaced)
    await rejects(harness.budgets.delete(scope, "b", 1n), "REVISION_MISMATCH")
    await harness.budgets.delete(scope, "b", 2n)
    await rejects(harness.budgets.get(scope, "b"), "NOT_FOUND")
    await rejects(harness.budgets.delete(scope, "b"), "NOT_FOUND")
  })

  it("lets one of many who create it at once win", async () => {
    const scope = systemScope(harness.freshTenant())
    const sets = Array.from({ length: 10 }, () => harness.budgets.set(scope, budget(), 0n))
    const outcomes = await Promise.allSettled(sets)
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1)
  })

  it("counts what is used in its period, late events too, also from before it was set", async () => {
    const scope = systemScope(harness.freshTenant())
    const now = harness.clock.now()
    const yesterday = now - DAY_MS
    await harness.usage.record(scope, [event("a", "3"), event("b", "4", { eventTime: yesterday })])
    await harness.budgets.set(scope, budget({ period: "DAY", thresholds: [30, 31] }))
    const today = await harness.budgets.get(scope, "b")
    assert.deepEqual([today.status.used, today.status.remaining], ["3", "7"])
    assert.deepEqual(today.status.reachedThresholds, [30])
    await harness.usage.record(scope, [event("late", "8", { eventTime: yesterday })])
    const before = await harness.budgets.get(scope, "b", yesterday)
    assert.deepEqual([before.status.used, before.status.remaining, before.status.exceeded], ["12", "0", true])
    assert.equal(before.status.bounds?.endTime, today.status.bounds?.startTime)
    await harness.budgets.set(scope, budget({ id: "all", period: "TOTAL", limit: "15" }))
    const listed = await harness.budgets.list(scope, "m", { size: 10 })
    assert.deepEqual(
      listed.items.map(({ status }) => status.used),
      ["15", "3"],
    )
    assert.deepEqual(
      listed.items.map(({ status }) => status.exceeded),
      [false, false],
    )
  })

  it("counts only its subject's usage", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget({ subject: { kind: "agent", id: "a" } }))
    await harness.usage.record(scope, [
      event("1", "1", { subject: { ...NOBODY, agentId: "a", userId: "u" } }),
      event("2", "2", { subject: { ...NOBODY, agentId: "A" } }),
      event("3", "4", { subject: { ...NOBODY, userId: "a" } }),
      event("4", "8"),
    ])
    assert.equal((await harness.budgets.get(scope, "b")).status.used, "1")
  })

  it("shows no tenant another's", async () => {
    const [mine, theirs] = [systemScope(harness.freshTenant()), systemScope(harness.freshTenant())]
    await harness.budgets.set(theirs, budget())
    await harness.usage.record(theirs, [event("a", "9")])
    await rejects(harness.budgets.get(mine, "b"), "NOT_FOUND")
    await harness.budgets.set(mine, budget(), 0n)
    assert.equal((await harness.budgets.get(mine, "b")).status.used, "0")
    assert.deepEqual((await harness.budgets.list(mine, undefined, { size: 9 })).items.length, 1)
  })
}

function reservations(make: () => Promise<BillingHarness>): void {
  let harness: BillingHarness
  before(async () => {
    harness = await make()
  })
  const asking = (quantity: string, fields: Partial<ReserveInput> = {}): ReserveInput => ({
    items: [{ meter: "m", quantity }],
    subject: NOBODY,
    expireTime: harness.clock.now() + 60_000,
    ...fields,
  })
  const reserve = async (scope: CallScope, quantity: string, fields: Partial<ReserveInput> = {}) =>
    (await harness.budgets.reserve(scope, asking(quantity, fields))).reservation
  const used = (quantity: string) => ({
    items: [{ meter: "m", quantity }],
    eventTime: undefined,
    dimensions: {},
  })
  const status = async (scope: CallScope) => {
    const { used: spent, reserved, remaining } = (await harness.budgets.get(scope, "b")).status
    return [spent, reserved, remaining]
  }

  it("never gives out more than there is, however many ask at once", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget({ limit: "10.5" }))
    const calls = Array.from({ length: 50 }, () => harness.budgets.reserve(scope, asking("1")))
    const outcomes = await Promise.allSettled(calls)
    assert.equal(outcomes.filter(({ status: each }) => each === "fulfilled").length, 10)
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") continue
      const { reason } = outcome
      assert.ok(reason instanceof DomainError)
      assert.equal(reason.reason, "BUDGET_EXCEEDED")
      assert.deepEqual(
        { ...reason.metadata },
        {
          budget: "b",
          meter: "m",
          limit: "10.5",
          used: "0",
          reserved: "10",
          remaining: "0.5",
          requested: "1",
        },
      )
    }
    assert.deepEqual(await status(scope), ["0", "10", "0.5"])
  })

  it("settles for less, for more and for nothing, exactly once", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget())
    const [less, more, none] = [
      await reserve(scope, "4"),
      await reserve(scope, "4"),
      await reserve(scope, "2"),
    ]
    await rejects(harness.budgets.reserve(scope, asking("0.000000001")), "BUDGET_EXCEEDED")
    const settled = await harness.budgets.settle(scope, less.id, used("1"))
    assert.equal(settled.state, "SETTLED")
    assert.deepEqual(settled.settledItems, [{ meter: "m", quantity: "1" }])
    assert.deepEqual(await harness.budgets.settle(scope, less.id, used("1.0")), settled)
    await rejects(harness.budgets.settle(scope, less.id, used("2")), "FAILED_PRECONDITION")
    await rejects(harness.budgets.release(scope, less.id), "FAILED_PRECONDITION")
    assert.deepEqual(await status(scope), ["1", "6", "3"])
    await Promise.all(Array.from({ length: 10 }, () => harness.budgets.settle(scope, more.id, used("6"))))
    assert.deepEqual(await status(scope), ["7", "2", "1"])
    await harness.budgets.settle(scope, none.id, { ...used("0"), items: [] })
    assert.deepEqual(await status(scope), ["7", "0", "3"])
    assert.equal(await total(harness.usage, scope), "7")
    assert.equal(await total(harness.usage, scope, { aggregation: "COUNT" }), "2")
  })

  it("gives back what is released", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget())
    const { id } = await reserve(scope, "10")
    const released = await harness.budgets.release(scope, id)
    assert.equal(released.state, "RELEASED")
    assert.deepEqual(await harness.budgets.release(scope, id), released)
    await rejects(harness.budgets.settle(scope, id, used("1")), "FAILED_PRECONDITION")
    assert.deepEqual(await status(scope), ["0", "0", "10"])
    await rejects(harness.budgets.release(scope, "none"), "NOT_FOUND")
  })

  it("lets go by itself, can be settled for a while after that, and is swept away at last", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget())
    const { id } = await reserve(scope, "10")
    const forgotten = await reserve(scope, "0")
    harness.clock.advance(60_000)
    assert.deepEqual(await status(scope), ["0", "0", "10"])
    assert.equal((await harness.budgets.settle(scope, id, used("3"))).state, "SETTLED")
    assert.deepEqual(await status(scope), ["3", "0", "7"])
    harness.clock.advance(7 * DAY_MS)
    await rejects(harness.budgets.settle(scope, forgotten.id, used("1")), "NOT_FOUND")
    assert.ok((await harness.budgets.sweep(systemScope(), 1)) === 1)
    while ((await harness.budgets.sweep(systemScope(), 100)) > 0);
    assert.equal(await harness.budgets.sweep(systemScope(), 100), 0)
  })

  it("takes several meters or none, and wants every budget to agree", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget({ id: "m" }))
    await harness.budgets.set(scope, budget({ id: "n", meter: "n", limit: "1" }))
    await harness.budgets.set(scope, budget({ id: "a", limit: "5", subject: { kind: "agent", id: "a" } }))
    const both = (n: string) => ({
      items: [
        { meter: "n", quantity: n },
        { meter: "m", quantity: "4" },
      ],
    })
    await rejects(harness.budgets.reserve(scope, asking("", both("1.1"))), "BUDGET_EXCEEDED")
    const held = await reserve(scope, "", both("1"))
    assert.deepEqual(
      held.items.map(({ meter }) => meter),
      ["m", "n"],
    )
    const agent = { subject: { ...NOBODY, agentId: "a" } }
    const error = await rejects(harness.budgets.reserve(scope, asking("6", agent)), "BUDGET_EXCEEDED")
    assert.equal(error.metadata.budget, "a")
    await reserve(scope, "5", agent)
    await rejects(harness.budgets.reserve(scope, asking("2")), "BUDGET_EXCEEDED")
    await rejects(
      harness.budgets.settle(scope, held.id, { ...used("1"), items: [{ meter: "x", quantity: "1" }] }),
      "INVALID_FIELD",
    )
    await harness.budgets.settle(scope, held.id, used("1"))
    assert.equal((await harness.budgets.get(scope, "n")).status.used, "0")
    await reserve(scope, "1000000", { items: [{ meter: "unlimited", quantity: "1000000" }] })
  })

  it("goes over a soft budget and says so", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget({ hard: false }))
    assert.deepEqual((await harness.budgets.reserve(scope, asking("10"))).exceededSoftBudgetIds, [])
    assert.deepEqual((await harness.budgets.reserve(scope, asking("1"))).exceededSoftBudgetIds, ["b"])
  })

  it("answers a repeated request as before, and knows no other tenant's reservation", async () => {
    const scope = systemScope(harness.freshTenant())
    await harness.budgets.set(scope, budget())
    const request = withRequestId(scope, "BillingService/ReserveUsage", "r", 1)
    const first = await harness.budgets.reserve(request, asking("6"))
    assert.deepEqual(await harness.budgets.reserve(request, asking("6")), first)
    assert.deepEqual(await status(scope), ["0", "6", "4"])
    const other = systemScope(harness.freshTenant())
    await rejects(harness.budgets.settle(other, first.reservation.id, used("1")), "NOT_FOUND")
    await rejects(harness.budgets.release(other, first.reservation.id), "NOT_FOUND")
  })
}
