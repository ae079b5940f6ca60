/** What jobs are refused with, wherever they are. */
import { DomainError } from "../kernel/errors.ts"
import type { Job } from "./job-model.ts"

/** FAILED_PRECONDITION: the job's status does not allow what was asked for, e.g. `cancelled`. */
export function wrongJobStatus({ id, status }: Pick<Job, "id" | "status">, done: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `job "${id}" is ${status} and cannot be ${done}`, {
    metadata: { resource: "job", name: id, state: status },
  })
}

/** LEASE_LOST. */
export function jobLeaseLost(jobId: string): DomainError {
  return new DomainError(
    "LEASE_LOST",
    `the lease of job "${jobId}" has elapsed or the job has moved on; stop working on it`,
    { metadata: { job_id: jobId } },
  )
}
