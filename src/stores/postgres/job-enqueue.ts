/** Adding jobs. */
import type { EnqueuedJob, Job, NewJob } from "../../domain/event/job-model.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import { uuid7 } from "../../domain/kernel/uuid7.ts"
import type { Tx } from "./database.ts"
import { backoffJson, JOB_COLUMNS, type JobRow, jobOf, payloadColumns } from "./job-rows.ts"

/** How often jobs with a dedupe key are tried again, when the job that held the key ended between two statements. */
const ROUNDS = 5

/** Adds `jobs` in order, answering for each the new job or the unfinished one that has its dedupe key. */
export async function enqueueJobs(
  tx: Tx,
  jobs: readonly NewJob[],
  now: Date | null,
): Promise<readonly EnqueuedJob[]> {
  const answers = new Array<EnqueuedJob | undefined>(jobs.length)
  let open = jobs.map((_, index) => index)
  for (let round = 0; open.length > 0 && round < ROUNDS; round++) {
    const ids = new Map(open.map((index) => [index, uuid7()]))
    const added = await insert(tx, jobs, ids, now)
    for (const [index, id] of ids) {
      const job = added.get(id)
      if (job !== undefined) answers[index] = { job, deduplicated: false }
    }
    open = open.filter((index) => answers[index] === undefined)
    if (open.length > 0) await answerHolders(tx, jobs, open, answers)
    open = open.filter((index) => answers[index] === undefined)
  }
  return answers.map((answer) => {
    if (answer !== undefined) return answer
    throw new DomainError("OVERLOADED", "the jobs with this dedupe key change too fast; nothing was added", {
      metadata: { limit: "dedupe_key" },
      retryDelayMs: 100,
    })
  })
}

async function insert(
  tx: Tx,
  jobs: readonly NewJob[],
  ids: ReadonlyMap<number, string>,
  now: Date | null,
): Promise<ReadonlyMap<string, Job>> {
  const picked = [...ids].flatMap(([index, id]) => {
    const job = jobs[index]
    return job === undefined ? [] : [{ id, job, payload: payloadColumns(job.payload) }]
  })
  const column = <T>(pick: (item: (typeof picked)[number]) => T): T[] => picked.map(pick)
  const { rows } = await tx.query<JobRow>({
    name: "job_insert",
    text: `insert into jobs as j (tenant, id, queue, status, priority, available_at, max_attempts, attempts_left,
        dedupe_key, backoff, lease_ms, payload_kind, payload, payload_type, payload_size,
        created_at)
      select $1, n.id, n.queue, 'queued', n.priority, coalesce(n.run_at, t.now + n.delay_ms * interval '1 ms'),
        n.max_attempts, n.max_attempts, n.dedupe_key, n.backoff, n.lease_ms, n.payload_kind, n.payload, n.payload_type,
        n.payload_size, t.now
      from unnest($3::text[], $4::text[], $5::int[], $6::timestamptz[], $7::float8[], $8::int[], $9::text[], $10::jsonb[],
        $11::bigint[], $12::text[], $13::bytea[], $14::text[], $15::int[])
        as n(id, queue, priority, run_at, delay_ms, max_attempts, dedupe_key, backoff, lease_ms, payload_kind, payload,
          payload_type, payload_size),
        (select date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp())) as now) t
      order by n.id
      on conflict (tenant, queue, dedupe_key) where dedupe_key is not null and status in ('queued', 'running') do nothing
      returning ${JOB_COLUMNS}`,
    values: [
      tx.scope.tenant,
      now,
      column(({ id }) => id),
      column(({ job }) => job.queue),
      column(({ job }) => job.priority),
      column(({ job }) => (job.runAtMs === undefined ? null : new Date(job.runAtMs).toISOString())),
      column(({ job }) => job.delayMs ?? 0),
      column(({ job }) => job.maxAttempts),
      column(({ job }) => job.dedupeKey ?? null),
      column(({ job }) => backoffJson(job.backoff)),
      column(({ job }) => job.leaseMs),
      column(({ payload }) => payload.kind),
      column(({ payload }) => payload.bytes),
      column(({ payload }) => payload.type),
      column(({ payload }) => payload.size),
    ],
  })
  return new Map(rows.map((row) => [row.id, jobOf(row)]))
}

async function answerHolders(
  tx: Tx,
  jobs: readonly NewJob[],
  open: readonly number[],
  answers: (EnqueuedJob | undefined)[],
): Promise<void> {
  const { rows } = await tx.query<JobRow>({
    name: "job_dedupe_holders",
    text: `select ${JOB_COLUMNS} from jobs j
      join (select distinct * from unnest($2::text[], $3::text[]) as k(queue, dedupe_key)) k
        on j.queue = k.queue and j.dedupe_key = k.dedupe_key
      where j.tenant = $1 and j.dedupe_key is not null and j.status in ('queued', 'running')`,
    values: [
      tx.scope.tenant,
      open.map((index) => jobs[index]?.queue),
      open.map((index) => jobs[index]?.dedupeKey ?? ""),
    ],
  })
  const holders = rows.map(jobOf)
  for (const index of open) {
    const wanted = jobs[index]
    const job = holders.find((held) => held.queue === wanted?.queue && held.dedupeKey === wanted.dedupeKey)
    if (job !== undefined) answers[index] = { job, deduplicated: true }
  }
}
