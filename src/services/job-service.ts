/** JobService. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { JOB_FILTER_FIELDS } from "../domain/event/job-ports.ts"
import type { JobQueue } from "../domain/event/job-queue.ts"
import { notFound } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import { JobService as JobServiceDescriptor, JobView } from "../gen/keelplane/v1/job_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import {
  changedMessage,
  claimedMessage,
  costOf,
  enqueuedMessage,
  failureOf,
  jobMessage,
  newJobOf,
  payloadOf,
  requireJsonSize,
  statusesOf,
  wholeMs,
} from "./job-messages.ts"
import type { Pages } from "./paging.ts"

const PAGE = { defaultSize: 50, maxSize: 500 }
const PROGRESS_MAX_BYTES = 16 * 1024

/** What {@link createJobService} needs. */
export interface JobServiceDeps {
  readonly jobs: JobQueue
  readonly pages: Pages
}

/** JobService over a queue. */
export function createJobService({ jobs, pages }: JobServiceDeps): Service {
  return service(JobServiceDescriptor, {
    enqueueJob: async (req, ctx) => {
      const wanted = req.job === undefined ? [] : [newJobOf(req.job, "job")]
      const [enqueued] = await jobs.enqueue(ctx, wanted)
      return enqueued === undefined ? {} : enqueuedMessage(enqueued)
    },
    enqueueJobs: async (req, ctx) => {
      const enqueued = await jobs.enqueue(
        ctx,
        req.jobs.map((job, i) => newJobOf(job, `jobs[${i}]`)),
      )
      return { jobs: enqueued.map(enqueuedMessage) }
    },
    getJob: async (req, ctx) => {
      const job = await jobs.store.get(ctx, req.jobId)
      if (job === undefined) throw notFound("job", req.jobId)
      return { job: jobMessage(job) }
    },
    listJobs: async (req, ctx) => {
      const query = {
        queue: req.queue === "" ? undefined : req.queue,
        statuses: statusesOf(req.statuses),
        filter: parseFilter(req.filter, JOB_FILTER_FIELDS),
        full: req.view === JobView.FULL,
      }
      const page = await jobs.store.list(ctx, query, pages.request(ctx, req, PAGE))
      return { jobs: page.items.map(jobMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    claimJobs: async (req, ctx) => {
      const claim = {
        workerId: req.workerId,
        queues: [...new Set(req.queues)],
        max: req.maxJobs === 0 ? 1 : req.maxJobs,
        leaseMs: wholeMs(req.lease),
      }
      const claimed = await jobs.claim(ctx, claim, wholeMs(req.wait) ?? 0)
      return { jobs: claimed.map(claimedMessage) }
    },
    heartbeatJob: async (req, ctx) => {
      if (req.progress !== undefined) requireJsonSize(req.progress, "progress", PROGRESS_MAX_BYTES)
      const leaseMs = wholeMs(req.lease)
      const pulse = await jobs.heartbeat(ctx, leaseOf(req), { leaseMs, progress: req.progress })
      return {
        leaseExpireTime: timestampFromMs(pulse.leaseExpireMs),
        cancelRequested: pulse.cancelRequested,
      }
    },
    completeJob: async (req, ctx) => {
      const outcome = { result: payloadOf(req.result, "result"), cost: costOf(req.cost) }
      return { job: changedMessage(await jobs.complete(ctx, leaseOf(req), outcome)) }
    },
    failJob: async (req, ctx) => {
      const job = await jobs.fail(ctx, leaseOf(req), {
        // Required by the proto, so always there.
        error: req.error === undefined ? { message: "", code: "" } : failureOf(req.error),
        retryable: req.retryable ?? true,
        retryDelayMs: wholeMs(req.retryDelay),
        cost: costOf(req.cost),
      })
      return { job: changedMessage(job) }
    },
    cancelJob: async (req, ctx) => ({ job: changedMessage(await jobs.cancel(ctx, req.jobId)) }),
    retryJob: async (req, ctx) => ({ job: changedMessage(await jobs.retry(ctx, req.jobId)) }),
    async *watchJob(req, ctx) {
      for await (const job of jobs.watch(ctx, req.jobId, req.afterRevision)) yield { job: jobMessage(job) }
    },
  })
}

function leaseOf(req: { jobId: string; leaseToken: string }) {
  return { jobId: req.jobId, token: req.leaseToken }
}
