/** Usage by months: an id counts once over all of them, and what retention drops leaves its sums. */
import assert from "node:assert/strict"
import { it } from "node:test"
import type { UsageEvent } from "../../src/domain/billing/model.ts"
import type { UsageStore } from "../../src/domain/billing/ports.ts"
import { retireUsage } from "../../src/domain/billing/usage-retention.ts"
import { type CallScope, PLATFORM_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { createBudgetStore } from "../../src/stores/postgres/budget-store.ts"
import type { Database, SqlEngine } from "../../src/stores/postgres/index.ts"
import { ensurePartitions } from "../../src/stores/postgres/partitions.ts"
import { createUsageStore } from "../../src/stores/postgres/usage-store.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines } from "../engines/sql-suites.ts"

const platform = systemScope(PLATFORM_TENANT)
const NOBODY = { agentId: "", userId: "", sessionId: "" }

function used(eventId: string, quantity: string, eventTime?: number): UsageEvent {
  return {
    eventId,
    meter: "m",
    quantity,
    eventTime,
    subject: { ...NOBODY, userId: "u" },
    dimensions: { d: "x" },
  }
}

/** A daemon's store, by whose clock it is `now`. */
function daemonAt(database: Database, now: number): UsageStore {
  return createUsageStore({ database, clock: { now: () => now } })
}

async function retireAll(store: UsageStore, beforeMs: number): Promise<void> {
  while ((await store.retire(platform, beforeMs, 100)) > 0);
}

async function months(store: UsageStore, scope: CallScope, aggregation: "SUM" | "COUNT" | "MAX" = "SUM") {
  const open = { startTime: undefined, endTime: undefined, uniqueBy: undefined, groupBy: [], dimensions: {} }
  const query = { meter: "m", aggregation, period: "MONTH", subject: NOBODY, ...open } as const
  const { items } = await store.aggregate(scope, query, { size: 99 })
  return items.map(({ startTime, value, events }) => [
    new Date(startTime ?? 0).toISOString().slice(0, 7),
    value,
    Number(events),
  ])
}

async function partitionsOf(database: Database, scope: CallScope): Promise<readonly string[]> {
  const { rows } = await database.query<{ name: string }>(platform, {
    text: "select distinct e.tableoid::regclass::text as name from usage_events e where e.tenant = $1 order by 1",
    values: [scope.tenant],
  })
  return rows.map(({ name }) => name)
}

function idContract(open: () => Promise<SqlEngine>): void {
  it("counts an id once when daemons on both sides of a month's end record it at once, and ever after", async () => {
    const { database } = await open()
    const scope = systemScope(freshTenant())
    const end = Date.UTC(2020, 1, 1)
    await ensurePartitions(database, platform, end - 1, 1)
    const daemons = [end - 1, end, end + 400 * 86_400_000].map((now) => daemonAt(database, now))
    const ids = Array.from({ length: 20 }, (_, at) => `e${at}`)
    const results = await Promise.all(
      daemons.flatMap((daemon, at) =>
        [0, 1].map(() =>
          daemon.record(
            scope,
            (at === 1 ? ids.toReversed() : ids).map((id) => used(id, "1")),
          ),
        ),
      ),
    )
    const recorded = results.reduce((sum, result) => sum + result.recorded, 0)
    assert.equal(recorded, ids.length)
    for (const daemon of daemons) {
      assert.deepEqual(await daemon.record(scope, [used("e0", "1")]), { recorded: 0, duplicates: 1 })
      await assert.rejects(daemon.record(scope, [used("e0", "1", end)]), { reason: "INVALID_FIELD" })
      await assert.rejects(daemon.record(scope, [used("e0", "2")]), { reason: "INVALID_FIELD" })
    }
    const [daemon] = daemons as [UsageStore]
    const events = (await months(daemon, scope)).reduce((sum, [, , count]) => sum + Number(count), 0)
    assert.equal(events, ids.length)
  })
}

function retentionContract(open: () => Promise<SqlEngine>): void {
  it("drops months and leaves their sums; bills and budgets stay what they were", async () => {
    const { database } = await open()
    const scope = systemScope(freshTenant())
    const clock = { now: () => Date.UTC(2019, 5, 15) }
    const [store, budgets] = [createUsageStore({ database, clock }), createBudgetStore({ database, clock })]
    await ensurePartitions(database, platform, Date.UTC(2019, 2, 1), 1)
    await store.record(scope, [
      used("a", "1.5", Date.UTC(2019, 2, 1)),
      used("b", "2", Date.UTC(2019, 3, 1) - 1),
      used("c", "4", Date.UTC(2019, 3, 1)),
      used("old", "0.5", Date.UTC(2001, 0, 31)),
    ])
    assert.deepEqual(await partitionsOf(database, scope), [
      "usage_events_p201903",
      "usage_events_p201904",
      "usage_events_rest",
    ])
    const budget = {
      id: "b",
      meter: "m",
      period: "TOTAL",
      limit: "9",
      hard: true,
      subject: { kind: "user", id: "u" },
      thresholds: [],
    } as const
    await budgets.set(scope, budget)
    const seen = async () => [
      await months(store, scope),
      await months(store, scope, "COUNT"),
      await months(store, scope, "MAX"),
      (await budgets.get(scope, "b")).status.used,
    ]
    const before = await seen()
    assert.equal(before.at(-1), "8")

    // Two whole months before the one of the 15th of June.
    const step = () => retireUsage(platform, store, clock, 2, 100)
    assert.equal(await retireUsage(platform, store, clock, 0, 100), 0)
    while ((await step()) > 0);
    assert.deepEqual(await seen(), before)
    assert.deepEqual(await partitionsOf(database, scope), ["usage_events_p201904"])
    const { items } = await store.aggregate(
      scope,
      {
        meter: "m",
        aggregation: "SUM",
        startTime: Date.UTC(2019, 0),
        endTime: undefined,
        period: undefined,
        groupBy: [{ kind: "user" }],
        uniqueBy: undefined,
        subject: NOBODY,
        dimensions: {},
      },
      { size: 9 },
    )
    assert.deepEqual(
      items.map(({ groups, value }) => [...groups, value]),
      [
        ["", "3.5"],
        ["u", "4"],
      ],
    )
    // What comes late for a month that is gone joins its sum; a repetition does not.
    await store.record(scope, [
      used("late", "8", Date.UTC(2019, 2, 20)),
      used("a", "1.5", Date.UTC(2019, 2, 1)),
    ])
    const late = [
      ["2001-01", "0.5", 1],
      ["2019-03", "11.5", 3],
      ["2019-04", "4", 1],
    ]
    assert.deepEqual(await months(store, scope), late)
    while ((await step()) > 0);
    assert.deepEqual(await months(store, scope), late)
    assert.deepEqual(await partitionsOf(database, scope), ["usage_events_p201904"])
  })

  it("knows an id as long as its event or its recording is kept", async () => {
    const { database } = await open()
    const scope = systemScope(freshTenant())
    const store = daemonAt(database, Date.UTC(2018, 4, 5))
    const [now, ahead] = [used("now", "1"), used("ahead", "1", Date.UTC(2018, 6, 1))]
    await store.record(scope, [now, ahead, used("ago", "1", Date.UTC(2010, 0))])
    await retireAll(store, Date.UTC(2018, 4, 31))
    const again = await store.record(scope, [now, ahead, used("ago", "1", Date.UTC(2010, 0))])
    assert.deepEqual(again, { recorded: 0, duplicates: 3 })
    await retireAll(store, Date.UTC(2018, 5, 1))
    assert.deepEqual(await store.record(scope, [ahead]), { recorded: 0, duplicates: 1 })
    const { rows } = await database.query<{ event_id: string }>(scope, {
      text: "select event_id from usage_ids where tenant = $1",
      values: [scope.tenant],
    })
    assert.deepEqual(rows, [{ event_id: "ahead" }])
  })

  it("takes nothing of this month, and nothing for a tenant", async () => {
    const { database } = await open()
    const scope = systemScope(freshTenant())
    const store = daemonAt(database, Date.now())
    await store.record(scope, [used("a", "1")])
    await assert.rejects(
      database.transaction(scope, (tx) => tx.query({ text: "select usage_retire('2018-01-01', 1)" })),
      { name: "DomainError" },
    )
    await retireAll(store, Date.UTC(2999, 0))
    assert.notDeepEqual(await partitionsOf(database, scope), [])
    assert.deepEqual(await store.record(scope, [used("a", "1")]), { recorded: 0, duplicates: 1 })
  })
}

onSqlEngines((open) => {
  idContract(open)
  retentionContract(open)
})
