/** What every history of jobs must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { JOB_HISTORY_MS, type JobHistory } from "../../src/domain/event/job-history.ts"
import type { Job } from "../../src/domain/event/job-model.ts"
import { JOB_FILTER_FIELDS, type JobQuery } from "../../src/domain/event/job-ports.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { plain, rejects } from "./job-support.ts"

/** A history under test. */
export interface JobHistoryHarness {
  readonly history: JobHistory
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the history sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

const DAY_MS = 86_400_000

/** A job that has ended. */
export function endedJob(id: string, endMs: number, job: Partial<Job> = {}): Job {
  return {
    id,
    queue: "q",
    status: "succeeded",
    priority: 0,
    maxAttempts: 5,
    attempts: 1,
    attemptsLeft: 4,
    backoff: { initialMs: 1_000, maximumMs: 300_000, multiplier: 2 },
    leaseMs: 60_000,
    cancelRequested: false,
    history: [],
    createMs: endMs - 1_000,
    endMs,
    revision: 3n,
    ...job,
  }
}

/** A job that deepEqual can compare, without what is absent. */
function comparable(job: Job | undefined): Record<string, unknown> {
  const members = { ...job, payload: plain(job?.payload), result: plain(job?.result) }
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}

/** The same as a history answers it. */
function kept(job: Job): Record<string, unknown> {
  return comparable({ ...job, expireMs: (job.endMs ?? 0) + JOB_HISTORY_MS })
}

type Query = Omit<JobQuery, "filter"> & { readonly filter?: string }

const ALL: Omit<Query, "filter"> = { statuses: [], full: false }

/** Everything that a query finds, page by page. */
async function listed(history: JobHistory, scope: CallScope, query: Query = ALL, size = 2): Promise<Job[]> {
  const found: Job[] = []
  const filter = parseFilter(query.filter ?? "", JOB_FILTER_FIELDS)
  for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
    const page = await history.list(scope, { ...query, filter }, { size, cursor })
    assert.ok(page.items.length <= size)
    found.push(...page.items)
    cursor = page.next
  }
  return found
}

/** Registers the suite. */
export function jobHistoryContract(make: () => Promise<JobHistoryHarness>): void {
  describe("job history", () => {
    let harness: JobHistoryHarness
    before(async () => {
      harness = await make()
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())
    const get = (): JobHistoryHarness => harness
    keeping(get, fresh)
    listing(get, fresh)
    ending(get, fresh)
  })
}

function keeping(get: () => JobHistoryHarness, fresh: () => CallScope): void {
  it("keeps a job as it ended, and answers it the same way from both methods", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const failure = { message: "nö \u{1f680}", code: "E1", details: { at: [1, null, { "": "\u0000" }] } }
    const full = endedJob("full", clock.now(), {
      status: "dead",
      payload: { kind: "json", value: { n: 0.1, deep: { list: [1, "x"] } } },
      result: { kind: "binary", bytes: Uint8Array.of(0, 255, 10), contentType: "x/y" },
      progress: { percent: 50 },
      error: failure,
      cost: { amount: "0.10000000000000000001", currency: "EUR" },
      dedupeKey: "once",
      workerId: "w",
      startMs: clock.now() - 500,
      history: [{ number: 1, workerId: "w", startMs: 1, endMs: 2, outcome: "failed", error: failure }],
      revision: 9_007_199_254_740_993n,
    })
    const bare = endedJob("bare", clock.now() - 1)
    await history.append(scope, [full, bare])
    assert.deepEqual(comparable(await history.get(scope, "full")), kept(full))
    assert.deepEqual(comparable(await history.get(scope, "bare")), kept(bare))
    const whole = await listed(history, scope, { statuses: [], full: true })
    assert.deepEqual(whole.map(comparable), [full, bare].map(kept))
    const { payload: _, result: __, ...basic } = kept(full)
    assert.deepEqual(comparable((await listed(history, scope))[0]), { ...basic, history: [] })
    assert.equal(await history.get(scope, "absent"), undefined)
  })

  it("takes repetitions without a further effect, and nothing that has not ended", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const job = endedJob("a", clock.now())
    await history.append(scope, [job])
    await Promise.all([history.append(scope, [job]), history.append(scope, [job])])
    assert.equal((await listed(history, scope)).length, 1)
    await rejects(history.append(scope, [{ ...job, id: "b", status: "running" }]), "FAILED_PRECONDITION")
    assert.equal(await history.get(scope, "b"), undefined)
    await history.append(scope, [])
  })

  it("keeps a job that was retried as it ended last, in whichever order it hears of that", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const failed = (id: string) => endedJob(id, clock.now() - DAY_MS, { status: "failed", revision: 3n })
    const done = (id: string) => endedJob(id, clock.now(), { revision: 6n })
    await history.append(scope, [failed("a"), done("b")])
    await history.append(scope, [done("a"), failed("b")])
    await Promise.all([history.append(scope, [failed("c")]), history.append(scope, [done("c")])])
    for (const id of ["a", "b", "c"]) assert.equal((await history.get(scope, id))?.status, "succeeded")
    const found = await listed(history, scope)
    assert.deepEqual(found.map(({ id, status }) => `${id} ${status}`).toSorted(), [
      "a succeeded",
      "b succeeded",
      "c succeeded",
    ])
  })

  it("shows no tenant another's", async () => {
    const { history, clock } = get()
    const [mine, theirs] = [fresh(), fresh()]
    await history.append(theirs, [endedJob("a", clock.now(), { queue: "theirs" })])
    assert.equal(await history.get(mine, "a"), undefined)
    assert.deepEqual(await listed(history, mine), [])
    await history.append(mine, [endedJob("a", clock.now(), { queue: "mine" })])
    assert.equal((await history.get(theirs, "a"))?.queue, "theirs")
  })
}

function listing(get: () => JobHistoryHarness, fresh: () => CallScope): void {
  it("lists by queue, status and filter, newest first, page by page, whenever jobs have ended", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const now = clock.now()
    // Three of each half of a day, as ids have it; those that began last have ended first.
    const jobs = Array.from({ length: 9 }, (_, n) =>
      endedJob(`01${Math.floor(n / 3)}90f2a-${n}`, now - n * 1_000, {
        queue: `q${n % 2}`,
        status: n % 3 === 0 ? "failed" : "succeeded",
        priority: n,
        ...(n === 3 && { error: { message: "", code: "E3" } }),
      }),
    )
    await history.append(scope, jobs.slice(4))
    await history.append(scope, jobs.slice(0, 4))
    const ids = async (query: Query, size?: number): Promise<string> =>
      (await listed(history, scope, query, size)).map(({ id }) => id.slice(-1)).join("")
    for (const size of [1, 2, 3, 9, 500]) assert.equal(await ids(ALL, size), "876543210")
    assert.equal(await ids({ ...ALL, queue: "q1" }), "7531")
    assert.equal(await ids({ ...ALL, statuses: ["failed", "dead"] }), "630")
    assert.equal(await ids({ ...ALL, filter: "priority >= 3 AND priority < 6" }), "543")
    assert.equal(await ids({ ...ALL, filter: `error_code = "E3" OR job_id = "${jobs[8]?.id}"` }), "83")
    const [from, to] = [jobs[5], jobs[2]].map((job) => new Date(job?.endMs ?? 0).toISOString())
    assert.equal(await ids({ ...ALL, filter: `end_time >= "${from}" AND end_time < "${to}"` }), "543")
    assert.equal(await ids({ ...ALL, queue: "Q1" }), "")
  })

  it("lists a part, from one id to the next", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const names = ["019a00-1", "019a00-2", "019b00-3", "019c00-4", "019c00-5"]
    await history.append(
      scope,
      names.map((id) => endedJob(id, clock.now())),
    )
    const part = async (below: string | undefined, from: string, size = 9) => {
      const cursor = below === undefined ? undefined : [below]
      const { items, next } = await history.list(scope, ALL, { size, cursor }, from)
      return [items.map(({ id }) => id.slice(-1)).join(""), next?.[0]?.slice(-1)]
    }
    assert.deepEqual(await part(undefined, "019b00-3"), ["543", undefined])
    assert.deepEqual(await part("019c00-5", "019a00-2"), ["432", undefined])
    assert.deepEqual(await part("019c00-5", "019a00-2", 2), ["43", "3"])
    assert.deepEqual(await part("019b00-3", "019b00-3"), ["", undefined])
    assert.deepEqual(await part(undefined, "019c00-6"), ["", undefined])
  })

  it("goes on below the last id of a page, whatever is added above it meanwhile", async () => {
    const { history, clock } = get()
    const scope = fresh()
    await history.append(
      scope,
      ["a1", "a3", "b5"].map((id) => endedJob(id, clock.now())),
    )
    const first = await history.list(scope, ALL, { size: 1 })
    await history.append(
      scope,
      ["a2", "b4", "c6"].map((id) => endedJob(id, clock.now())),
    )
    const rest = await history.list(scope, ALL, { size: 9, cursor: first.next })
    assert.deepEqual(
      [...first.items, ...rest.items].map(({ id }) => id),
      ["b5", "b4", "a3", "a2", "a1"],
    )
  })

  it("cuts lists by what their jobs are on the wire", async () => {
    const { history, clock } = get()
    const scope = fresh()
    // Eleven bytes each on the wire, and two as text.
    const value = { zeros: Array.from({ length: 90_000 }, () => 0) }
    for (let n = 0; n < 5; n++) {
      await history.append(scope, [endedJob(`${n}`, clock.now(), { payload: { kind: "json", value } })])
    }
    const seen: string[] = []
    for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
      const page = await history.list(scope, { statuses: [], full: true }, { size: 100, cursor })
      assert.ok(page.items.length > 0 && page.items.length <= 3, `${page.items.length} jobs`)
      seen.push(...page.items.map(({ id }) => id))
      cursor = page.next
    }
    assert.deepEqual(seen.toSorted(), ["0", "1", "2", "3", "4"])
    assert.equal((await history.list(scope, ALL, { size: 100 })).items.length, 5)
  })
}

function ending(get: () => JobHistoryHarness, fresh: () => CallScope): void {
  it("forgets a job a year after its end", async () => {
    const { history, clock } = get()
    const scope = fresh()
    await history.append(scope, [endedJob("old", clock.now()), endedJob("new", clock.now() + 1)])
    clock.advance(JOB_HISTORY_MS)
    assert.equal(await history.get(scope, "old"), undefined)
    assert.equal((await history.get(scope, "new"))?.id, "new")
    assert.deepEqual(
      (await listed(history, scope)).map(({ id }) => id),
      ["new"],
    )
    clock.advance(-JOB_HISTORY_MS)
  })

  it("forgets a job when its own retention ends, and takes none whose has ended", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const job = (id: string, expireMs: number) => endedJob(id, clock.now() - 60_000, { expireMs })
    await history.append(scope, [job("soon", clock.now() + 30_000), job("over", clock.now())])
    assert.equal((await history.get(scope, "soon"))?.expireMs, clock.now() + 30_000)
    assert.equal(await history.get(scope, "over"), undefined)
    clock.advance(30_000)
    assert.equal(await history.get(scope, "soon"), undefined)
    assert.deepEqual(await listed(history, scope), [])
    clock.advance(-30_000)
  })

  it("does nothing for a call that has ended already", async () => {
    const { history, clock } = get()
    const scope = fresh()
    const job = endedJob("a", clock.now())
    await rejects(history.append({ ...scope, deadlineMs: 1 }, [job]), "DEADLINE_EXCEEDED")
    await rejects(history.append({ ...scope, signal: AbortSignal.abort() }, [job]), "CANCELLED")
    assert.equal(await history.get(scope, "a"), undefined)
  })
}
