/** What every store of jobs must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { JOB_HISTORY_MAX, type Job, type JobPayload, type NewJob } from "../../src/domain/event/job-model.ts"
import { JOB_FILTER_FIELDS, type JobQuery, type JobStore } from "../../src/domain/event/job-ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  ALL,
  add,
  claimOf,
  type JobHarness,
  leaseOf,
  newJob,
  plain,
  rejects,
  withRequestId,
} from "./job-support.ts"

/** Registers the suite. */
export function jobContract(make: () => Promise<JobHarness>): void {
  describe("job store", () => {
    let harness: JobHarness
    let store: JobStore
    let scope: CallScope
    before(async () => {
      harness = await make()
      store = harness.store
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    it("enqueues a job with its input unchanged, text, binary and empty", async () => {
      scope = fresh()
      const payloads: (JobPayload | undefined)[] = [
        undefined,
        { kind: "json", value: {} },
        { kind: "json", value: { text: "ünïcödé \u0000 \u{1f680}", n: 0.1, deep: [{ a: null }, true, ""] } },
        { kind: "binary", bytes: new Uint8Array(), contentType: "text/plain" },
        { kind: "binary", bytes: Uint8Array.of(0, 255, 10, 0), contentType: "application/octet-stream" },
      ]
      for (const payload of payloads) {
        const { job, deduplicated } = await add(store, scope, { payload })
        assert.equal(deduplicated, false)
        assert.equal(job.status, "queued")
        assert.equal(job.revision, 1n)
        assert.equal(job.attempts, 0)
        assert.equal(job.createMs, harness.clock.now())
        const read = await store.get(scope, job.id)
        assert.deepEqual(plain(read?.payload), plain(payload))
      }
    })

    it("answers nothing for an id it does not have, also one that differs in case", async () => {
      scope = fresh()
      const { job } = await add(store, scope)
      assert.equal(await store.get(scope, "no-such-job"), undefined)
      assert.equal(await store.get(scope, job.id.toUpperCase()), undefined)
    })

    it("keeps tenants apart in every method", async () => {
      const [one, two] = [fresh(), fresh()]
      const { job } = await add(store, one, { dedupeKey: "k" })
      assert.equal(await store.get(two, job.id), undefined)
      assert.equal((await store.list(two, ALL, { size: 10 })).items.length, 0)
      assert.equal((await store.claim(two, claimOf())).length, 0)
      assert.equal((await add(store, two, { dedupeKey: "k" })).deduplicated, false)
      const [claimed] = await store.claim(one, claimOf())
      const lease = leaseOf(claimed)
      const failure = { error: { message: "x", code: "" }, retryable: true }
      await rejects(store.heartbeat(two, lease, {}), "NOT_FOUND")
      await rejects(store.complete(two, lease, {}), "NOT_FOUND")
      await rejects(store.fail(two, lease, failure), "NOT_FOUND")
      await rejects(store.cancel(two, job.id), "NOT_FOUND")
      await rejects(store.retry(two, job.id), "NOT_FOUND")
      assert.equal((await store.complete(one, lease, {})).status, "succeeded")
    })

    it("hands out by priority, then time, then id, and nothing before its time", async () => {
      scope = fresh()
      const now = harness.clock.now()
      const names = new Map<string, string>()
      const put = async (name: string, job: Partial<NewJob>) =>
        names.set((await add(store, scope, job)).job.id, name)
      await put("late", { runAtMs: now - 10 })
      await put("early", { runAtMs: now - 1_000 })
      await put("same-time", { runAtMs: now - 10 })
      await put("low", { priority: -2_147_483_648 })
      await put("high", { priority: 2_147_483_647 })
      await put("future", { priority: 9, delayMs: 5_000 })
      const claimed = await store.claim(scope, claimOf({ max: 10 }))
      assert.deepEqual(
        claimed.map(({ job }) => names.get(job.id)),
        ["high", "early", "late", "same-time", "low"],
      )
      harness.clock.advance(5_000)
      const later = await store.claim(scope, claimOf({ max: 10 }))
      assert.deepEqual(
        later.map(({ job }) => names.get(job.id)),
        ["future"],
      )
    })

    it("claims only from the queues asked for, at most as many as asked for", async () => {
      scope = fresh()
      for (const queue of ["a", "a", "b", "A"]) await add(store, scope, { queue })
      assert.equal((await store.claim(scope, claimOf({ queues: ["A"], max: 9 }))).length, 1)
      assert.equal((await store.claim(scope, claimOf({ queues: ["a", "b"], max: 2 }))).length, 2)
      assert.equal((await store.claim(scope, claimOf({ queues: ["a", "b"], max: 9 }))).length, 1)
    })

    it("claims no more than one answer can carry, and leaves the others their attempts", async () => {
      // On the wire, the list is more than five times as large as its text.
      const payloads: JobPayload[] = [
        { kind: "binary", bytes: new Uint8Array(1_048_576), contentType: "text/plain" },
        { kind: "json", value: { zeros: Array.from({ length: 90_000 }, () => 0) } },
      ]
      for (const payload of payloads) {
        scope = fresh()
        await store.enqueue(
          scope,
          Array.from({ length: 6 }, () => newJob({ payload })),
        )
        const order = (await store.list(scope, ALL, { size: 6 })).items.map(({ id }) => id).reverse()
        const seen: string[] = []
        while (seen.length < 6) {
          const claimed = await store.claim(scope, claimOf({ queues: ["p", "q"], max: 100 }))
          assert.ok(claimed.length > 0 && claimed.length <= 3, `${claimed.length} at once`)
          seen.push(...claimed.map(({ job }) => job.id))
          for (const { job } of claimed) assert.equal(job.attempts, 1)
        }
        assert.deepEqual(seen, order)
      }
      scope = fresh()
      await store.enqueue(
        scope,
        Array.from({ length: 100 }, () => newJob()),
      )
      assert.equal((await store.claim(scope, claimOf({ max: 100 }))).length, 100)
      scope = fresh()
      await add(store, scope, {
        payload: { kind: "binary", bytes: new Uint8Array(4_000_000), contentType: "a" },
      })
      assert.equal((await store.claim(scope, claimOf({ max: 2 }))).length, 1)
    })

    it("gives each of 500 jobs to exactly one of 20 concurrent claimers", async () => {
      scope = fresh()
      await store.enqueue(
        scope,
        Array.from({ length: 500 }, () => newJob()),
      )
      const seen = new Map<string, number>()
      const claimer = async (name: number): Promise<void> => {
        for (;;) {
          const jobs = await store.claim(scope, claimOf({ workerId: `w${name}`, max: 7 }))
          if (jobs.length === 0) return
          for (const { job } of jobs) seen.set(job.id, (seen.get(job.id) ?? 0) + 1)
          for (const claimed of jobs) await store.complete(scope, leaseOf(claimed), {})
        }
      }
      await Promise.all(Array.from({ length: 20 }, (_, name) => claimer(name)))
      assert.equal(seen.size, 500)
      assert.deepEqual([...new Set(seen.values())], [1])
      const done = await store.list(scope, { ...ALL, statuses: ["succeeded"] }, { size: 500 })
      assert.equal(done.items.length, 500)
    })

    it("completes with result and cost, and then refuses the lease", async () => {
      scope = fresh()
      await add(store, scope)
      const [claimed] = await store.claim(scope, claimOf({ workerId: "ada" }))
      assert.equal(claimed?.job.workerId, "ada")
      assert.equal(claimed?.job.attempts, 1)
      const done = await store.complete(scope, leaseOf(claimed), {
        result: { kind: "json", value: { answer: 42 } },
        cost: { amount: "0.000000001", currency: "USD" },
      })
      assert.equal(done.status, "succeeded")
      assert.deepEqual(done.result, { kind: "json", value: { answer: 42 } })
      assert.deepEqual(done.cost, { amount: "0.000000001", currency: "USD" })
      assert.equal(done.endMs, harness.clock.now())
      assert.deepEqual(
        done.history.map(({ number, outcome, workerId }) => [number, outcome, workerId]),
        [[1, "succeeded", "ada"]],
      )
      await rejects(store.complete(scope, leaseOf(claimed), {}), "LEASE_LOST")
      await rejects(store.heartbeat(scope, leaseOf(claimed), {}), "LEASE_LOST")
    })

    it("retries after the backoff and is dead when its attempts are used up", async () => {
      scope = fresh()
      const backoff = { initialMs: 1_000, maximumMs: 1_500, multiplier: 2 }
      const { job } = await add(store, scope, { maxAttempts: 2, backoff })
      const error = { message: "boom \u{1f4a5}", code: "rate_limited", details: { tries: 1 } }
      const [first] = await store.claim(scope, claimOf())
      const retried = await store.fail(scope, leaseOf(first), { error, retryable: true })
      assert.equal(retried.status, "queued")
      assert.deepEqual(retried.error, error)
      const wait = (retried.availableMs ?? 0) - harness.clock.now()
      assert.ok(wait >= 500 && wait <= 1_000, `waits ${wait} ms`)
      assert.equal((await store.claim(scope, claimOf())).length, 0)
      harness.clock.advance(1_000)
      const [second] = await store.claim(scope, claimOf())
      assert.equal(second?.job.attempts, 2)
      const dead = await store.fail(scope, leaseOf(second), { error, retryable: true })
      assert.equal(dead.status, "dead")
      assert.equal(dead.attemptsLeft, 0)
      assert.deepEqual(
        dead.history.map(({ outcome, error: told }) => [outcome, told?.code]),
        [
          ["failed", "rate_limited"],
          ["failed", "rate_limited"],
        ],
      )
      const again = await store.retry(scope, job.id)
      assert.equal(again.status, "queued")
      assert.equal(again.attemptsLeft, 2)
      assert.equal((await store.claim(scope, claimOf()))[0]?.job.attempts, 3)
    })

    it("ends as failed what its worker calls hopeless, and takes the worker's own delay", async () => {
      scope = fresh()
      const [{ job: hopeless }, { job: slow }] = [await add(store, scope), await add(store, scope)]
      const claimed = await store.claim(scope, claimOf({ max: 2 }))
      const leases = new Map(claimed.map((each) => [each.job.id, leaseOf(each)]))
      const error = { message: "no", code: "" }
      const lease = (id: string) => leases.get(id) ?? { jobId: id, token: "none" }
      const failed = await store.fail(scope, lease(hopeless.id), { error, retryable: false })
      assert.equal(failed.status, "failed")
      assert.equal(failed.availableMs, undefined)
      const delayed = await store.fail(scope, lease(slow.id), {
        error,
        retryable: true,
        retryDelayMs: 77_000,
      })
      assert.equal(delayed.availableMs, harness.clock.now() + 77_000)
    })

    it("takes a job away from a worker whose lease elapsed", async () => {
      scope = fresh()
      await add(store, scope, { leaseMs: 1_000, maxAttempts: 2 })
      const [lost] = await store.claim(scope, claimOf({ workerId: "slow" }))
      assert.equal(lost?.leaseExpireMs, harness.clock.now() + 1_000)
      harness.clock.advance(999)
      assert.equal((await store.claim(scope, claimOf())).length, 0)
      harness.clock.advance(1)
      // Elapsed is lost, even before somebody else has taken it.
      await rejects(store.heartbeat(scope, leaseOf(lost), {}), "LEASE_LOST")
      const [taken] = await store.claim(scope, claimOf({ workerId: "quick" }))
      assert.equal(taken?.job.id, lost?.job.id)
      assert.equal(taken?.job.attempts, 2)
      assert.deepEqual(
        taken?.job.history.map(({ outcome, workerId }) => [outcome, workerId]),
        [["lease_expired", "slow"]],
      )
      assert.notEqual(taken?.leaseToken, lost?.leaseToken)
      const failure = { error: { message: "late", code: "" }, retryable: true }
      await rejects(store.complete(scope, leaseOf(lost), {}), "LEASE_LOST")
      await rejects(store.fail(scope, leaseOf(lost), failure), "LEASE_LOST")
      assert.equal((await store.complete(scope, leaseOf(taken), {})).status, "succeeded")
    })

    it("makes a job dead whose lease elapsed with the last attempt, by the sweeper", async () => {
      scope = fresh()
      const { job } = await add(store, scope, { leaseMs: 1_000, maxAttempts: 1 })
      await store.claim(scope, claimOf())
      harness.clock.advance(1_000)
      assert.equal((await store.claim(scope, claimOf())).length, 0)
      assert.deepEqual(await store.sweep(scope, 100), { expired: 1, removed: 0 })
      const dead = await store.get(scope, job.id)
      assert.equal(dead?.status, "dead")
      assert.equal(dead?.history[0]?.outcome, "lease_expired")
    })

    it("extends a lease by a heartbeat, with progress", async () => {
      scope = fresh()
      const { job } = await add(store, scope, { leaseMs: 1_000 })
      const [claimed] = await store.claim(scope, claimOf({ leaseMs: 2_000 }))
      harness.clock.advance(1_500)
      const pulse = await store.heartbeat(scope, leaseOf(claimed), { progress: { percent: 50 } })
      assert.deepEqual(pulse, { leaseExpireMs: harness.clock.now() + 2_000, cancelRequested: false })
      assert.deepEqual((await store.get(scope, job.id))?.progress, { percent: 50 })
      await store.heartbeat(scope, leaseOf(claimed), { leaseMs: 9_000 })
      harness.clock.advance(8_999)
      assert.equal((await store.claim(scope, claimOf())).length, 0)
      assert.deepEqual((await store.get(scope, job.id))?.progress, { percent: 50 })
    })

    it("cancels a queued job at once and a running one by its worker", async () => {
      scope = fresh()
      const { job: queued } = await add(store, scope)
      assert.equal((await store.cancel(scope, queued.id)).status, "cancelled")
      assert.equal((await store.cancel(scope, queued.id)).status, "cancelled")
      const { job: running } = await add(store, scope)
      const [claimed] = await store.claim(scope, claimOf())
      const asked = await store.cancel(scope, running.id)
      assert.deepEqual([asked.status, asked.cancelRequested], ["running", true])
      assert.equal((await store.heartbeat(scope, leaseOf(claimed), {})).cancelRequested, true)
      const error = { message: "stopped", code: "" }
      const ended = await store.fail(scope, leaseOf(claimed), { error, retryable: true })
      assert.equal(ended.status, "cancelled")
      assert.equal(ended.history[0]?.outcome, "cancelled")
      assert.equal((await store.retry(scope, running.id)).status, "queued")
    })

    it("never hands out a job whose cancellation was asked for", async () => {
      scope = fresh()
      const { job } = await add(store, scope, { leaseMs: 1_000 })
      await store.claim(scope, claimOf())
      await store.cancel(scope, job.id)
      harness.clock.advance(1_000)
      assert.equal((await store.claim(scope, claimOf())).length, 0)
      await store.sweep(scope, 100)
      assert.equal((await store.get(scope, job.id))?.status, "cancelled")
    })

    it("refuses to cancel or retry in the wrong state", async () => {
      scope = fresh()
      const { job } = await add(store, scope)
      await rejects(store.retry(scope, job.id), "FAILED_PRECONDITION")
      const [claimed] = await store.claim(scope, claimOf())
      await rejects(store.retry(scope, job.id), "FAILED_PRECONDITION")
      await store.complete(scope, leaseOf(claimed), {})
      await rejects(store.cancel(scope, job.id), "FAILED_PRECONDITION")
      await rejects(store.retry(scope, job.id), "FAILED_PRECONDITION")
      await rejects(store.cancel(scope, "nobody"), "NOT_FOUND")
      await rejects(store.retry(scope, "nobody"), "NOT_FOUND")
    })

    it("keeps one unfinished job per dedupe key and queue, also within a batch and between writers", async () => {
      scope = fresh()
      const { job } = await add(store, scope, { dedupeKey: "k" })
      const again = await add(store, scope, { dedupeKey: "k" })
      assert.deepEqual([again.job.id, again.deduplicated], [job.id, true])
      assert.equal((await add(store, scope, { dedupeKey: "K" })).deduplicated, false)
      assert.equal((await add(store, scope, { dedupeKey: "k", queue: "other" })).deduplicated, false)
      const batch = await store.enqueue(scope, [
        newJob({ dedupeKey: "n" }),
        newJob(),
        newJob({ dedupeKey: "n" }),
        newJob({ dedupeKey: "k" }),
      ])
      assert.deepEqual(
        batch.map(({ deduplicated }) => deduplicated),
        [false, false, true, true],
      )
      assert.equal(batch[2]?.job.id, batch[0]?.job.id)
      const raced = await Promise.all(
        Array.from({ length: 20 }, () => add(store, scope, { dedupeKey: "race" })),
      )
      assert.equal(new Set(raced.map((each) => each.job.id)).size, 1)
      assert.equal(raced.filter(({ deduplicated }) => !deduplicated).length, 1)
      await store.cancel(scope, job.id)
      const renewed = await add(store, scope, { dedupeKey: "k" })
      assert.equal(renewed.deduplicated, false)
      await rejects(store.retry(scope, job.id), "ALREADY_EXISTS")
    })

    it("answers a repeated request_id with the first outcome", async () => {
      scope = fresh()
      const enqueue = withRequestId(scope, "EnqueueJob", "r1", 1)
      const first = await add(store, enqueue)
      const second = await add(store, enqueue)
      assert.deepEqual(second, first)
      assert.equal((await store.list(scope, ALL, { size: 10 })).items.length, 1)
      await rejects(add(store, withRequestId(scope, "EnqueueJob", "r1", 2)), "REQUEST_ID_REUSED")
      const claiming = withRequestId(scope, "ClaimJobs", "c1", 1)
      const claimed = await store.claim(claiming, claimOf())
      assert.equal(claimed.length, 1)
      assert.deepEqual(await store.claim(claiming, claimOf()), claimed)
      const completing = withRequestId(scope, "CompleteJob", "d1", 1)
      const done = await store.complete(completing, leaseOf(claimed[0]), {})
      assert.deepEqual(await store.complete(completing, leaseOf(claimed[0]), {}), done)
    })

    it("does not keep an empty claim under its request_id", async () => {
      scope = fresh()
      const claiming = withRequestId(scope, "ClaimJobs", "c2", 1)
      assert.deepEqual(await store.claim(claiming, claimOf()), [])
      await add(store, scope)
      assert.equal((await store.claim(claiming, claimOf())).length, 1)
    })

    it("lists newest first, in pages that neither repeat nor lose while jobs arrive", async () => {
      scope = fresh()
      const ids: string[] = []
      for (let i = 0; i < 7; i++) ids.unshift((await add(store, scope)).job.id)
      const seen: string[] = []
      let cursor: readonly string[] | undefined
      do {
        const page = await store.list(scope, ALL, { size: 3, cursor })
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.next
        await add(store, scope)
      } while (cursor !== undefined)
      assert.deepEqual(seen, ids)
    })

    it("lists by queue, status and filter, and leaves out the bulk unless asked", async () => {
      scope = fresh()
      const payload: JobPayload = { kind: "json", value: { a: 1 } }
      await add(store, scope, { queue: "q1", priority: 5, payload })
      const { job } = await add(store, scope, { queue: "q2", priority: 1 })
      await store.cancel(scope, job.id)
      const count = async (query: Partial<JobQuery>) =>
        (await store.list(scope, { ...ALL, ...query }, { size: 10 })).items.length
      assert.equal(await count({ queue: "q1" }), 1)
      assert.equal(await count({ statuses: ["cancelled", "dead"] }), 1)
      const filter = (text: string) => ({ filter: parseFilter(text, JOB_FILTER_FIELDS) })
      assert.equal(await count(filter('priority >= 5 AND status = "queued"')), 1)
      assert.equal(await count(filter("end_time:*")), 1)
      assert.equal(await count(filter('NOT queue = "q2"')), 1)
      const basic = await store.list(scope, { ...ALL, queue: "q1" }, { size: 1 })
      assert.equal(basic.items[0]?.payload, undefined)
      const full = await store.list(scope, { ...ALL, queue: "q1", full: true }, { size: 1 })
      assert.deepEqual(full.items[0]?.payload, payload)
    })

    it("cuts pages by what jobs are on the wire", async () => {
      scope = fresh()
      const zeros = { zeros: Array.from({ length: 90_000 }, () => 0) }
      const ids: string[] = []
      for (let i = 0; i < 7; i++) {
        const { job } = await add(store, scope, { payload: { kind: "json", value: zeros } })
        ids.unshift(job.id)
      }
      const seen: string[] = []
      let cursor: readonly string[] | undefined
      do {
        const page = await store.list(scope, { ...ALL, full: true }, { size: 5, cursor })
        assert.ok(page.items.length > 0 && page.items.length <= 3, `${page.items.length} jobs`)
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.next
      } while (cursor !== undefined)
      assert.deepEqual(seen, ids)
      assert.equal((await store.list(scope, ALL, { size: 7 })).items.length, 7)
    })

    it("remembers only the last attempts", async () => {
      scope = fresh()
      await add(store, scope, { maxAttempts: 100, backoff: { initialMs: 0, maximumMs: 0, multiplier: 1 } })
      let job: Job | undefined
      for (let i = 0; i < JOB_HISTORY_MAX + 3; i++) {
        const [claimed] = await store.claim(scope, claimOf())
        const error = { message: `attempt ${i + 1}`, code: "" }
        job = await store.fail(scope, leaseOf(claimed), { error, retryable: true })
      }
      assert.equal(job?.history.length, JOB_HISTORY_MAX)
      assert.equal(job?.history[0]?.number, 4)
      assert.equal(job?.history.at(-1)?.error?.message, `attempt ${JOB_HISTORY_MAX + 3}`)
    })

    it("forgets an ended job after its retention, at once for readers, for good by the sweeper", async () => {
      scope = fresh()
      const { job } = await add(store, scope)
      const { job: open } = await add(store, scope, { queue: "other" })
      await store.cancel(scope, job.id)
      harness.clock.advance(366 * 24 * 3_600_000)
      assert.equal(await store.get(scope, job.id), undefined)
      assert.deepEqual(
        (await store.list(scope, ALL, { size: 10 })).items.map(({ id }) => id),
        [open.id],
      )
      await rejects(store.retry(scope, job.id), "NOT_FOUND")
      assert.equal((await store.sweep(scope, 100)).removed, 1)
    })

    it("does nothing for a call that has ended already", async () => {
      const tenant = harness.freshTenant()
      const late: CallScope = { ...systemScope(tenant), deadlineMs: Date.now() - 1 }
      await rejects(add(store, late), "DEADLINE_EXCEEDED")
      const cancelled = systemScope(tenant, AbortSignal.abort(new DomainError("CANCELLED", "gone")))
      await rejects(add(store, cancelled), "CANCELLED")
      assert.equal((await store.list(systemScope(tenant), ALL, { size: 10 })).items.length, 0)
    })
  })
}
