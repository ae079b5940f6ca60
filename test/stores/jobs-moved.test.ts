/** Jobs that leave the database for the history on a cluster: to callers nothing changes. */
import assert from "node:assert/strict"
import { after, describe, it } from "node:test"
import type { JobHistory } from "../../src/domain/event/job-history.ts"
import { moveEndedJobs, withJobHistory } from "../../src/domain/event/job-past.ts"
import { JOB_FILTER_FIELDS, type JobStore } from "../../src/domain/event/job-ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresJobExits } from "../../src/stores/postgres/job-exits.ts"
import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { createTenantEraser } from "../../src/stores/postgres/tenant-eraser.ts"
import { jobContract } from "../contract/job.contract.ts"
import { jobQueueContract } from "../contract/job-queue.contract.ts"
import { ALL, add, claimOf, leaseOf, rejects, withRequestId } from "../contract/job-support.ts"
import { cassandraSkip, testCassandra } from "../engines/cassandra.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, sqlEngines } from "../engines/sql-suites.ts"

const DAY_MS = 86_400_000
const YEAR_MS = 365 * DAY_MS

async function placesOn(sql: SqlEngine, cluster: CassandraEngine, retentionMs?: ByTenant<number>) {
  const clock = heldClock()
  const outage = { on: false }
  const store = createPostgresJobStore(sql.database, { clock, retentionMs })
  const exits = createPostgresJobExits(sql.database, { clock, retentionMs: YEAR_MS })
  const places = {
    store,
    exits,
    history: failing(createCassandraJobHistory({ cql: cluster.session, clock }), outage),
  }
  const move = (scope: CallScope, stayMs = 0) => moveEndedJobs(scope, places, { stayMs })
  const moveAll = async (scope: CallScope): Promise<void> => {
    while ((await move(scope)) > 0);
  }
  return { ...places, all: withJobHistory(places), clock, move, moveAll, outage }
}

/** The history, which is away while there is an outage. */
function failing(history: JobHistory, outage: { readonly on: boolean }): JobHistory {
  const reached = () => {
    if (outage.on) throw new DomainError("STORE_UNAVAILABLE", "the store cannot be reached")
    return history
  }
  return {
    append: async (...call) => reached().append(...call),
    get: async (...call) => reached().get(...call),
    list: async (...call) => reached().list(...call),
  }
}

type Places = Awaited<ReturnType<typeof placesOn>>

/** The same store, from which every job that has ended is gone before anybody looks. */
function eager({ all, moveAll }: Places): JobStore {
  const after = async (scope: CallScope) => {
    if (!scope.signal.aborted && scope.deadlineMs > Date.now())
      await moveAll(systemScope(scope.tenant, scope.signal))
    return all
  }
  return {
    ...all,
    get: async (scope, ...rest) => (await after(scope)).get(scope, ...rest),
    list: async (scope, ...rest) => (await after(scope)).list(scope, ...rest),
    heartbeat: async (scope, ...rest) => (await after(scope)).heartbeat(scope, ...rest),
    complete: async (scope, ...rest) => (await after(scope)).complete(scope, ...rest),
    fail: async (scope, ...rest) => (await after(scope)).fail(scope, ...rest),
    cancel: async (scope, ...rest) => (await after(scope)).cancel(scope, ...rest),
    retry: async (scope, ...rest) => (await after(scope)).retry(scope, ...rest),
  }
}

for (const { name, skip, open } of sqlEngines.slice(0, 2)) {
  describe(`jobs on ${name} and Cassandra`, { skip: skip || cassandraSkip, timeout: 600_000 }, () => {
    let opened: Promise<readonly [SqlEngine, CassandraEngine]> | undefined
    after(async () => (await opened)?.[0].close())
    const places = async (retentionMs?: ByTenant<number>): Promise<Places> => {
      opened ??= Promise.all([open(), testCassandra()])
      return placesOn(...(await opened), retentionMs)
    }
    describe("that have not left yet", () => {
      jobContract(async () => {
        const { all, clock } = await places()
        return { store: all, clock, freshTenant }
      })
    })
    describe("that leave at once", () => {
      const make = async () => {
        const found = await places()
        return { store: eager(found), clock: found.clock, freshTenant }
      }
      jobContract(make)
      jobQueueContract(make)
    })
    moving(places)
    retrying(places)
    erasing(places, async () => (await opened)?.[0])
  })
}

/** Ends a new job. */
async function ended({ all }: Places, scope: CallScope, queue = "q"): Promise<string> {
  await add(all, scope, { queue })
  const [claimed] = await all.claim(scope, claimOf({ queues: [queue] }))
  return (await all.complete(scope, leaseOf(claimed), {})).id
}

function moving(places: (retentionMs?: ByTenant<number>) => Promise<Places>): void {
  it("stay for their time also where they are kept for less than others", async () => {
    const [brief, rest] = [freshTenant(), freshTenant()]
    const kept = new ByTenant(YEAR_MS, [{ name: "brief", tenants: [brief], value: 2 * DAY_MS }])
    const found = await places(kept)
    const { all, store, history, clock, move } = found
    const scopes = [systemScope(brief), systemScope(rest)]
    const ids = [await ended(found, systemScope(brief)), await ended(found, systemScope(rest))]
    const expires = [2 * DAY_MS, YEAR_MS].map((ms) => clock.now() + ms)
    while ((await move(systemScope(), DAY_MS)) > 0);
    for (const [n, scope] of scopes.entries()) assert.ok(await store.get(scope, ids[n] ?? ""))
    clock.advance(DAY_MS)
    while ((await move(systemScope(), DAY_MS)) > 0);
    for (const [n, scope] of scopes.entries()) {
      assert.equal(await store.get(scope, ids[n] ?? ""), undefined)
      assert.equal((await history.get(scope, ids[n] ?? ""))?.expireMs, expires[n])
    }
    clock.advance(DAY_MS)
    assert.equal(await all.get(systemScope(brief), ids[0] ?? ""), undefined)
    assert.ok(await all.get(systemScope(rest), ids[1] ?? ""))
  })

  it("leave after their stay, for all tenants at once, and are the same as before", async () => {
    const found = await places()
    const { store, all, history, clock, move } = found
    const [one, two] = [systemScope(freshTenant()), systemScope(freshTenant())]
    const jobs = [await ended(found, one), await ended(found, two)]
    const open = await add(all, one, { queue: "open" })
    const before = await all.get(one, jobs[0] ?? "")
    await move(systemScope(), DAY_MS)
    assert.equal(await history.get(one, jobs[0] ?? ""), undefined)
    clock.advance(DAY_MS)
    while ((await move(systemScope(), DAY_MS)) > 0);
    for (const [scope, id] of [
      [one, jobs[0] ?? ""],
      [two, jobs[1] ?? ""],
    ] as const) {
      assert.equal(await store.get(scope, id), undefined)
      assert.equal((await history.get(scope, id))?.status, "succeeded")
    }
    assert.deepEqual(comparable(await all.get(one, jobs[0] ?? "")), comparable(before))
    assert.equal((await all.get(one, open.job.id))?.status, "queued")
  })

  it("are listed once each and in order, page by page, while they move", async () => {
    const found = await places()
    const scope = systemScope(freshTenant())
    const ids: string[] = []
    for (let n = 0; n < 12; n++) {
      const queue = `q${n}`
      if (n % 3 === 0) ids.unshift((await add(found.all, scope, { queue })).job.id)
      else ids.unshift(await ended(found, scope, queue))
      if (n === 5) await found.moveAll(scope)
    }
    for (const size of [1, 2, 5, 100]) {
      const seen: string[] = []
      for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
        const page = await found.all.list(scope, ALL, { size, cursor })
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.next
        if (size === 5) await found.moveAll(scope)
      }
      assert.deepEqual(seen, ids, `pages of ${size}`)
    }
    const filter = parseFilter('status = "succeeded"', JOB_FILTER_FIELDS)
    assert.equal((await found.all.list(scope, { ...ALL, filter }, { size: 100 })).items.length, 8)
  })

  it("stay where they are while the history is away, and what has left is not said to be absent", async () => {
    const found = await places()
    const { store, all, clock, outage, move, moveAll } = found
    const scope = systemScope(freshTenant())
    const gone = await ended(found, scope)
    await moveAll(scope)
    const id = await ended(found, scope)
    outage.on = true
    await rejects(move(scope), "STORE_UNAVAILABLE")
    assert.equal((await all.get(scope, id))?.status, "succeeded")
    await rejects(all.get(scope, gone), "STORE_UNAVAILABLE")
    await rejects(all.list(scope, ALL, { size: 9 }), "STORE_UNAVAILABLE")
    assert.deepEqual((await all.list(scope, { ...ALL, statuses: ["queued"] }, { size: 9 })).items, [])
    outage.on = false
    // Whoever took it first has it for a minute.
    assert.equal(await move(scope), 0)
    clock.advance(60_000)
    assert.equal(await move(scope), 1)
    assert.equal(await store.get(scope, id), undefined)
    assert.equal((await all.get(scope, id))?.status, "succeeded")
  })

  it("are moved by one of several daemons", async () => {
    const found = await places()
    const scope = systemScope(freshTenant())
    for (let n = 0; n < 20; n++) await ended(found, scope)
    const moved = await Promise.all(Array.from({ length: 4 }, () => found.move(scope)))
    assert.equal(
      moved.reduce((sum, count) => sum + count, 0),
      20,
    )
    assert.equal((await found.all.list(scope, ALL, { size: 100 })).items.length, 20)
  })
}

function retrying(places: () => Promise<Places>): void {
  const error = { message: "no", code: "E" }

  async function failed({ all, moveAll }: Places, scope: CallScope, dedupeKey?: string): Promise<string> {
    const payload = { kind: "binary", bytes: Uint8Array.of(1, 2), contentType: "x/y" } as const
    await add(all, scope, { payload, ...(dedupeKey === undefined ? {} : { dedupeKey }) })
    const [claimed] = await all.claim(scope, claimOf())
    const { id } = await all.fail(scope, leaseOf(claimed), { error, retryable: false })
    await moveAll(scope)
    return id
  }

  it("come back when they are retried, as they were, once for a request_id, and end again", async () => {
    const found = await places()
    const { store, all, history, moveAll } = found
    const scope = systemScope(freshTenant())
    const id = await failed(found, scope)
    assert.equal(await store.get(scope, id), undefined)
    const call = withRequestId(scope, "RetryJob", "r", 1)
    const again = await all.retry(call, id)
    assert.deepEqual([again.status, again.attemptsLeft, again.revision], ["queued", 5, 4n])
    assert.deepEqual(await all.retry(call, id), again)
    await rejects(all.retry(withRequestId(scope, "RetryJob", "r", 2), id), "REQUEST_ID_REUSED")
    await rejects(all.retry(scope, id), "FAILED_PRECONDITION")
    // What the history has of it counts no more.
    assert.equal((await history.get(scope, id))?.status, "failed")
    const listed = async (status: "failed" | "queued" | "succeeded") =>
      (await all.list(scope, { ...ALL, statuses: [status] }, { size: 9 })).items.length
    assert.deepEqual([await listed("failed"), await listed("queued")], [0, 1])
    assert.deepEqual(
      (await all.list(scope, ALL, { size: 9 })).items.map(({ status }) => status),
      ["queued"],
    )
    const [claimed] = await all.claim(scope, claimOf())
    assert.equal(claimed?.job.attempts, 2)
    assert.equal(claimed?.job.payload?.kind, "binary")
    const { revision } = await all.complete(scope, leaseOf(claimed), {})
    await moveAll(scope)
    const last = await all.get(scope, id)
    assert.deepEqual([last?.status, last?.revision], ["succeeded", revision])
    assert.deepEqual(
      last?.history.map(({ number, outcome }) => [number, outcome]),
      [
        [1, "failed"],
        [2, "succeeded"],
      ],
    )
    assert.deepEqual([await listed("failed"), await listed("succeeded")], [0, 1])
  })

  it("do not come back where another job has their dedupe key, and come back once for two who ask", async () => {
    const found = await places()
    const scope = systemScope(freshTenant())
    const id = await failed(found, scope, "k")
    const { job } = await add(found.all, scope, { dedupeKey: "k" })
    await rejects(found.all.retry(scope, id), "ALREADY_EXISTS")
    await found.all.cancel(scope, job.id)
    const both = await Promise.allSettled([found.all.retry(scope, id), found.all.retry(scope, id)])
    assert.deepEqual(both.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"])
  })
}

function erasing(places: () => Promise<Places>, sql: () => Promise<SqlEngine | undefined>): void {
  it("are not erased from the database while they move, so that none is left behind", async () => {
    const found = await places()
    const engine = await sql()
    assert.ok(engine !== undefined)
    const scope = systemScope(freshTenant())
    await ended(found, scope)
    // By the server's clock, as erasers have it.
    const exits = createPostgresJobExits(engine.database, { retentionMs: 2 * YEAR_MS })
    const taken = await exits.take(scope, { stayMs: 0, leaseMs: 60_000, max: 9 })
    assert.equal(taken.length, 1)
    await ended(found, scope)
    const eraser = createTenantEraser(engine.database, "control")
    const removals = await eraser.erase(scope)
    assert.equal(removals.find(({ what }) => what === "jobs")?.count, 1)
    assert.equal(await eraser.holds(scope), true)
    await exits.remove(scope, taken)
    await eraser.erase(scope)
    assert.equal(await eraser.holds(scope), false)
  })
}

function comparable(job: unknown): unknown {
  return JSON.parse(
    JSON.stringify(job, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
  )
}
