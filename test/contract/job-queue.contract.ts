/** Waiting for jobs, over any store. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { JobQueue } from "../../src/domain/event/job-queue.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ALL, claimOf, type JobHarness, newJob, rejects, until } from "./job-support.ts"

/** Registers the suite. */
export function jobQueueContract(make: () => Promise<JobHarness>): void {
  describe("job queue", () => {
    let harness: JobHarness
    let jobs: JobQueue
    before(async () => {
      harness = await make()
      // A poll that never comes: what wakes these calls is the wake-up inside the process.
      jobs = new JobQueue(harness.store, { pollMs: 3_600_000, maxWaiters: 50 })
    })
    after(() => assert.equal(jobs.waiting, 0))

    it("wakes a waiting claim when a job comes, and only as many claims as there are jobs", async () => {
      const scope = systemScope(harness.freshTenant())
      const controller = new AbortController()
      const waiting = { ...scope, signal: controller.signal }
      const first = jobs.claim(waiting, claimOf(), 300_000)
      const second = jobs.claim(waiting, claimOf(), 300_000)
      await until(() => jobs.waiting === 2)
      await jobs.enqueue(scope, [newJob()])
      // Either may be it: one that was still looking finds the job by itself.
      const [claimed, loser] = await Promise.race([
        first.then((found) => [found, second] as const),
        second.then((found) => [found, first] as const),
      ])
      assert.equal(claimed.length, 1)
      assert.equal(jobs.waiting, 1)
      controller.abort(new DomainError("CANCELLED", "enough"))
      await endsCancelled(loser)
    })

    it("answers an empty claim when the wait is over, before the deadline", async () => {
      const scope = { ...systemScope(harness.freshTenant()), deadlineMs: Date.now() + 1_500 }
      assert.deepEqual(await jobs.claim(scope, claimOf(), 300_000), [])
    })

    it("leaves no waiter behind when a call is cancelled, and refuses one too many", async () => {
      const controller = new AbortController()
      const scope = { ...systemScope(harness.freshTenant()), signal: controller.signal }
      const calls = Array.from({ length: 50 }, () => jobs.claim(scope, claimOf(), 300_000))
      const settled = Promise.allSettled(calls)
      await rejects(jobs.claim(scope, claimOf(), 300_000), "OVERLOADED")
      controller.abort(new DomainError("CANCELLED", "enough"))
      await settled
      for (const call of calls) await endsCancelled(call)
      assert.equal(jobs.waiting, 0)
    })

    it("shows a job's states to a watcher until it has ended, and resumes after a revision", async () => {
      const scope = systemScope(harness.freshTenant())
      const [enqueued] = await jobs.enqueue(scope, [newJob()])
      const id = enqueued?.job.id ?? ""
      const seen: string[] = []
      let revision = 0n
      for await (const job of jobs.watch(scope, id, 0n)) {
        seen.push(job.status)
        revision = job.revision
        if (job.status === "queued") await jobs.claim(scope, claimOf(), 0)
        else if (job.status === "running") {
          const [again] = await harness.store.list(scope, ALL, { size: 1 }).then(({ items }) => items)
          assert.equal(again?.revision, job.revision)
          await jobs.cancel(scope, id)
          break
        }
      }
      assert.deepEqual(seen, ["queued", "running"])
      harness.clock.advance(3_600_000)
      await harness.store.sweep(scope, 10)
      for await (const job of jobs.watch(scope, id, revision)) {
        assert.ok(job.revision > revision)
        seen.push(job.status)
      }
      assert.deepEqual(seen, ["queued", "running", "cancelled"])
      await rejects(jobs.watch(scope, "nobody", 0n).next(), "NOT_FOUND")
    })
  })
}

/** A claim that was on its way to the store when it was cancelled may have taken a job, for all anybody knows. */
async function endsCancelled(call: Promise<unknown>): Promise<void> {
  await assert.rejects(
    call,
    ({ reason }: DomainError) => reason === "CANCELLED" || reason === "OUTCOME_UNKNOWN",
  )
}
