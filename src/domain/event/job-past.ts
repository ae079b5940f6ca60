/** A queue and the history of what has left it, as one store of jobs. */
import { DomainError } from "../kernel/errors.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import { type CallScope, scopeWith, type TenantId } from "../kernel/scope.ts"
import { jobLeaseLost, wrongJobStatus } from "./job-errors.ts"
import type { JobExits, LeavingJob } from "./job-exits.ts"
import { fitsJobQuery } from "./job-filter.ts"
import { JOB_HISTORY_BATCH_MAX, type JobHistory, jobBytes } from "./job-history.ts"
import { hasEnded, type Job, MAX_JOBS_BYTES } from "./job-model.ts"
import type { JobQuery, JobStore } from "./job-ports.ts"

/** Where jobs are: first in the queue, in the end in the history, on their way in both. */
export interface JobPlaces {
  readonly store: JobStore
  readonly exits: JobExits
  readonly history: JobHistory
}

/**
 * A {@link JobStore} that also has what has left the queue. What the queue has is what counts; since a job is in the history before it
 * leaves, who asks the queue first and the history then misses none.
 */
export function withJobHistory(places: JobPlaces): JobStore {
  const { store, exits, history } = places
  const past = async (scope: CallScope, jobId: string, absent: unknown): Promise<Job> => {
    const job = isNotFound(absent) ? await history.get(scope, jobId) : undefined
    if (job === undefined) throw absent
    return job
  }
  /** Nobody holds a job that has left. */
  const held = async <T>(scope: CallScope, jobId: string, call: Promise<T>): Promise<T> => {
    try {
      return await call
    } catch (error) {
      await past(scope, jobId, error)
      throw jobLeaseLost(jobId)
    }
  }
  return {
    enqueue: (scope, jobs) => store.enqueue(scope, jobs),
    get: async (scope, jobId) => (await store.get(scope, jobId)) ?? history.get(scope, jobId),
    list: (scope, query, page) => listBoth(places, scope, query, page),
    claim: (scope, claim) => store.claim(scope, claim),
    heartbeat: (scope, lease, pulse) => held(scope, lease.jobId, store.heartbeat(scope, lease, pulse)),
    complete: (scope, lease, outcome) => held(scope, lease.jobId, store.complete(scope, lease, outcome)),
    fail: (scope, lease, failure) => held(scope, lease.jobId, store.fail(scope, lease, failure)),
    cancel: async (scope, jobId) => {
      try {
        return await store.cancel(scope, jobId)
      } catch (error) {
        const job = await past(scope, jobId, error)
        if (job.status === "cancelled") return job
        throw wrongJobStatus(job, "cancelled")
      }
    },
    retry: async (scope, jobId) => {
      try {
        return await store.retry(scope, jobId)
      } catch (error) {
        const job = await past(scope, jobId, error)
        if (job.status === "succeeded") throw wrongJobStatus(job, "retried")
        return exits.restore(scope, job)
      }
    },
    sweep: (scope, limit) => store.sweep(scope, limit),
  }
}

function isNotFound(error: unknown): boolean {
  return error instanceof DomainError && error.reason === "NOT_FOUND"
}

/** Ids are in the order of creation in both places, so that a page is what comes first of both. */
async function listBoth(
  { store, exits, history }: JobPlaces,
  scope: CallScope,
  query: JobQuery,
  page: PageRequest,
): Promise<Page<Job>> {
  const queued = await store.list(scope, query, page)
  if (query.statuses.length > 0 && !query.statuses.some(hasEnded)) return queued
  const left = await history.list(scope, query, page, queued.next?.[0])
  // What comes after the end of either page may have others before it that were not read.
  const end = [queued.next?.[0], left.next?.[0]].reduce(later)
  const within = ({ id }: Job) => end === undefined || id >= end
  const seen = new Set(queued.items.map(({ id }) => id))
  const others = left.items.filter((job) => within(job) && !seen.has(job.id))
  const gone = await notQueued({ store, exits }, scope, query, others)
  const jobs = [...queued.items.filter(within), ...gone].sort((a, b) => (a.id < b.id ? 1 : -1))
  return cut(jobs, end, page.size)
}

/** The id that comes first in a list. */
function later(a: string | undefined, b: string | undefined): string | undefined {
  return a === undefined || (b !== undefined && b > a) ? b : a
}

/** Jobs of the history, but where the queue has one (retried, or not removed yet) the queue's, if that fits. */
async function notQueued(
  { store, exits }: Pick<JobPlaces, "store" | "exits">,
  scope: CallScope,
  query: JobQuery,
  jobs: readonly Job[],
): Promise<readonly Job[]> {
  if (jobs.length === 0) return jobs
  const found = await exits.find(
    scope,
    jobs.map(({ id }) => id),
  )
  const queued = new Map(found.map((job) => [job.id, job]))
  const chosen = await Promise.all(
    jobs.map(async (job) => {
      const current = queued.get(job.id)
      if (current === undefined) return job
      if (!fitsJobQuery(current, query)) return undefined
      return query.full ? store.get(scope, job.id) : current
    }),
  )
  return chosen.filter((job) => job !== undefined)
}

function cut(jobs: readonly Job[], end: string | undefined, size: number): Page<Job> {
  const items: Job[] = []
  let bytes = 0
  for (const job of jobs) {
    bytes += jobBytes(job)
    if (items.length === size || (items.length > 0 && bytes > MAX_JOBS_BYTES)) {
      return { items, next: [items.at(-1)?.id ?? ""] }
    }
    items.push(job)
  }
  return end === undefined ? { items } : { items, next: [end] }
}

/** How {@link moveEndedJobs} works. */
export interface JobMove {
  /** How long an ended job stays in the queue, at least. */
  readonly stayMs: number
}

/** How long one round may take, and for how long after its begin nobody else looks at its jobs. */
const ROUND_MS = 30_000
const LEASE_MS = 60_000

/**
 * Moves a number of ended jobs into the history, for all tenants in the platform's scope. Who dies meanwhile leaves them in both, and
 * the next one moves them again. Answers how many have left; rejects where some have not.
 */
export async function moveEndedJobs(
  scope: CallScope,
  { exits, history }: Pick<JobPlaces, "exits" | "history">,
  { stayMs }: JobMove,
): Promise<number> {
  const round = scopeWith(scope, { deadlineMs: Math.min(scope.deadlineMs, Date.now() + ROUND_MS) })
  const taken = await exits.take(round, { stayMs, leaseMs: LEASE_MS, max: JOB_HISTORY_BATCH_MAX })
  const kept: LeavingJob[] = []
  const failures: unknown[] = []
  const tenants: ReadonlyMap<TenantId, readonly LeavingJob[]> = Map.groupBy(taken, ({ tenant }) => tenant)
  await Promise.all(
    [...tenants].map(async ([tenant, own]) => {
      try {
        await history.append(
          scopeWith(round, { tenant }),
          own.map(({ job }) => job),
        )
        kept.push(...own)
      } catch (error) {
        failures.push(error)
      }
    }),
  )
  const removed = kept.length === 0 ? 0 : await exits.remove(round, kept)
  if (failures.length > 0) throw failures[0]
  return removed
}
