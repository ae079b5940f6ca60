/** The job queue: a store of jobs, and the waiting for them that a store cannot do. */
import { notFound } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import { endedScope, requireLive, WakeUps, waitBudgetMs } from "../kernel/wake-ups.ts"
import { type ClaimedJob, type EnqueuedJob, hasEnded, type Job, type NewJob } from "./job-model.ts"
import type { JobClaim, JobLease, JobStore } from "./job-ports.ts"

/** How {@link JobQueue} waits. */
export interface JobQueueOptions {
  /** Most calls that may wait or watch at once. Default: 10,000. */
  readonly maxWaiters?: number
  /** How often to look for what other daemons did, in milliseconds, give or take a fifth. Default: 500. */
  readonly pollMs?: number
}

/** Jobs with waiting claims and watches. Everything that has no waiting in it is on `store`. */
export class JobQueue {
  /** The jobs themselves. */
  readonly store: JobStore
  readonly #wakeUps: WakeUps
  readonly #pollMs: number

  constructor(store: JobStore, options: JobQueueOptions = {}) {
    this.store = store
    this.#wakeUps = new WakeUps(options.maxWaiters ?? 10_000)
    this.#pollMs = options.pollMs ?? 500
  }

  /** Calls that wait or watch now. */
  get waiting(): number {
    return this.#wakeUps.size
  }

  /** {@link JobStore.enqueue}; wakes as many waiting claims as there are new jobs. */
  async enqueue(scope: CallScope, jobs: readonly NewJob[]): Promise<readonly EnqueuedJob[]> {
    const enqueued = await this.store.enqueue(scope, jobs)
    for (const { job, deduplicated } of enqueued) {
      if (!deduplicated) this.#wakeUps.wake(queueKey(scope, job.queue), 1)
    }
    return enqueued
  }

  /** {@link JobStore.claim}, but waits up to `waitMs`, and never past the deadline, for a first job. */
  async claim(scope: CallScope, claim: JobClaim, waitMs: number): Promise<readonly ClaimedJob[]> {
    if (waitMs <= 0) return this.#claimed(scope, await this.store.claim(scope, claim))
    requireLive(scope)
    const end = performance.now() + waitBudgetMs(scope, waitMs)
    const listener = this.#wakeUps.listen(claim.queues.map((queue) => queueKey(scope, queue)))
    try {
      for (;;) {
        const jobs = await this.store.claim(scope, claim)
        const left = end - performance.now()
        if (jobs.length > 0 || left <= 0) return this.#claimed(scope, jobs)
        const ended = await listener.wait(Math.min(left, this.#pause()), scope.signal)
        if (ended === "aborted") throw endedScope(scope)
      }
    } finally {
      listener.close()
    }
  }

  /** {@link JobStore.complete}; wakes watchers. */
  async complete(
    scope: CallScope,
    lease: JobLease,
    outcome: Parameters<JobStore["complete"]>[2],
  ): Promise<Job> {
    return this.#changed(scope, await this.store.complete(scope, lease, outcome))
  }

  /** {@link JobStore.fail}; wakes watchers, and claims when the job may run again at once. */
  async fail(scope: CallScope, lease: JobLease, failure: Parameters<JobStore["fail"]>[2]): Promise<Job> {
    return this.#changed(scope, await this.store.fail(scope, lease, failure))
  }

  /** {@link JobStore.heartbeat}; wakes watchers when it carries progress. */
  async heartbeat(
    scope: CallScope,
    lease: JobLease,
    pulse: Parameters<JobStore["heartbeat"]>[2],
  ): ReturnType<JobStore["heartbeat"]> {
    const answer = await this.store.heartbeat(scope, lease, pulse)
    if (pulse.progress !== undefined) this.#wakeUps.wake(jobKey(scope, lease.jobId))
    return answer
  }

  /** {@link JobStore.cancel}; wakes watchers. */
  async cancel(scope: CallScope, jobId: string): Promise<Job> {
    return this.#changed(scope, await this.store.cancel(scope, jobId))
  }

  /** {@link JobStore.retry}; wakes watchers and a claim. */
  async retry(scope: CallScope, jobId: string): Promise<Job> {
    return this.#changed(scope, await this.store.retry(scope, jobId))
  }

  /**
   * Every state of the job after `afterRevision` that can be seen, the current one first; ends after a terminal one.
   * NOT_FOUND, also when the job's retention ends meanwhile.
   */
  async *watch(scope: CallScope, jobId: string, afterRevision: bigint): AsyncGenerator<Job, void, undefined> {
    const listener = this.#wakeUps.listen([jobKey(scope, jobId)])
    try {
      let seen = afterRevision
      for (;;) {
        const job = await this.store.get(scope, jobId)
        if (job === undefined) throw notFound("job", jobId)
        if (job.revision > seen) {
          seen = job.revision
          yield job
        }
        if (hasEnded(job.status)) return
        if ((await listener.wait(this.#pause(), scope.signal)) === "aborted") throw endedScope(scope)
      }
    } finally {
      listener.close()
    }
  }

  #claimed(scope: CallScope, jobs: readonly ClaimedJob[]): readonly ClaimedJob[] {
    for (const { job } of jobs) this.#wakeUps.wake(jobKey(scope, job.id))
    return jobs
  }

  #changed(scope: CallScope, job: Job): Job {
    this.#wakeUps.wake(jobKey(scope, job.id))
    if (job.status === "queued") this.#wakeUps.wake(queueKey(scope, job.queue), 1)
    return job
  }

  #pause(): number {
    return this.#pollMs * (0.8 + Math.random() * 0.4)
  }
}

// Tenant ids have no spaces, so a key names one thing only.
function queueKey(scope: CallScope, queue: string): string {
  return `${scope.tenant} queue ${queue}`
}

function jobKey(scope: CallScope, jobId: string): string {
  return `${scope.tenant} job ${jobId}`
}
