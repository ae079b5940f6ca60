/** Finished jobs of a whole daemon, when they have moved from the embedded database to the cluster: callers see no difference. */
import assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { JobService, JobStatus, JobView } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import {
  administer,
  atEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
  plainClient,
} from "../engines/cassandra.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const READY = { readyTimeoutMs: 120_000 }
const tenantId = "leaving"

/** A worker's life of one job, which ends as `end` has it. */
async function work(channel: Channel, queue: string, end: "complete" | "fail") {
  const jobs = channel.stub(JobService)
  await jobs.enqueueJob({ job: { queue, payload: { kind: { case: "data", value: { to: "ada" } } } } })
  const [claimed] = (await jobs.claimJobs({ workerId: "w", queues: [queue] })).jobs
  const lease = { jobId: claimed?.job?.jobId ?? "", leaseToken: claimed?.leaseToken ?? "" }
  if (end === "complete")
    await jobs.completeJob({ ...lease, result: { kind: { case: "data", value: { sent: true } } } })
  else await jobs.failJob({ ...lease, error: { message: "no such address" }, retryable: false })
  return { ...lease, job: (await jobs.getJob({ jobId: lease.jobId })).job }
}

describe("finished jobs that have moved", { skip: cassandraSkip, timeout: 600_000 }, () => {
  it("are read, watched, retried and erased as before, also by the next daemon", async () => {
    const hosts = await cassandraHosts()
    const keyspace = freshKeyspace()
    atEnd(() => administer(hosts, `drop keyspace if exists ${keyspace}`))
    const env = {
      KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1`,
      KEELPLANE_RETENTION__JOBS_QUEUE_HOURS: "0",
    }
    const first = await startDaemon({ env, ...READY })
    let daemon: Daemon = first
    let channel = daemon.channel()
    let theirs = daemon.channel({ "x-keelplane-tenant": tenantId })
    try {
      await channel.stub(ControlService).createTenant({ tenant: { tenantId } })
      const [done, failed] = [await work(channel, "mail", "complete"), await work(channel, "post", "fail")]
      await work(theirs, "mail", "complete")
      const { job: open } = await channel.stub(JobService).enqueueJob({ job: { queue: "open" } })
      await until(async () => (await moved(daemon)) >= 3, "the jobs to have moved", 120_000)
      assert.equal(await kept(hosts, keyspace), 3)

      channel.close()
      theirs.close()
      await first.end("SIGKILL")
      daemon = await startDaemon({ env, dataDir: first.dataDir, ...READY })
      channel = daemon.channel()
      theirs = daemon.channel({ "x-keelplane-tenant": tenantId })
      const jobs = channel.stub(JobService)
      for (const { jobId, job } of [done, failed]) assert.deepEqual((await jobs.getJob({ jobId })).job, job)
      const listed = await jobs.listJobs({ view: JobView.FULL })
      assert.deepEqual(
        listed.jobs.map(({ jobId }) => jobId),
        [open?.jobId, failed.jobId, done.jobId],
      )
      assert.deepEqual(listed.jobs.slice(1), [failed.job, done.job])
      const states = []
      for await (const { job } of jobs.watchJob({ jobId: done.jobId })) states.push(job?.status)
      assert.deepEqual(states, [JobStatus.SUCCEEDED])
      await assert.rejects(jobs.completeJob(done), /lease/)
      await assert.rejects(jobs.cancelJob({ jobId: done.jobId }), /succeeded and cannot be cancelled/)
      await assert.rejects(jobs.retryJob({ jobId: done.jobId }), /succeeded and cannot be retried/)
      const again = { jobId: failed.jobId, requestId: "again" }
      const { job: retried } = await jobs.retryJob(again)
      assert.equal(retried?.status, JobStatus.QUEUED)
      assert.deepEqual((await jobs.retryJob(again)).job, retried)
      const [claimed] = (await jobs.claimJobs({ workerId: "w", queues: ["post"] })).jobs
      assert.deepEqual(claimed?.job?.payload, failed.job?.payload)
      assert.equal(claimed?.job?.attempts, 2)

      const control = channel.stub(ControlService)
      await assert.rejects(control.deleteTenant({ tenantId }), /still holds/)
      const { sagaId } = await control.deleteTenant({ tenantId, force: true })
      const saga = async () => (await control.getSaga({ sagaId, platform: true })).saga
      await until(async () => (await saga())?.certificate !== undefined, "the tenant to be gone")
      const removals = (await saga())?.certificate?.removals
      assert.equal(removals?.find(({ what }) => what === "job_history")?.count, 1n)

      assert.equal(await daemon.end("SIGTERM"), 0)
      const exported = spawnSync(
        process.execPath,
        [main, "export", "--tenant", "default", "--data-dir", first.dataDir],
        { env: { PATH: process.env.PATH, ...env }, encoding: "utf8" },
      )
      const items = exported.stdout.split("\n").filter((line) => line.startsWith('{"kind":"job"'))
      const found = items.map((line) => JSON.parse(line) as { id: string; status: string })
      assert.deepEqual(
        new Map(found.map(({ id, status }) => [id, status])),
        new Map([
          [done.jobId, "succeeded"],
          [failed.jobId, "queued"],
          [open?.jobId, "queued"],
        ]),
        exported.stderr,
      )
      assert.equal(items.length, 3)
    } finally {
      channel.close()
      theirs.close()
      await daemon.stop()
      await first.stop()
    }
  })
})

async function moved({ opsAddress }: Daemon): Promise<number> {
  const text = await (await fetch(`http://${opsAddress}/metrics`)).text()
  return Number(/^keelplane_sweep_removed_total\{sweeper="jobs-ended"\} (\d+)$/m.exec(text)?.[1] ?? 0)
}

async function kept(hosts: string, keyspace: string): Promise<number> {
  const client = await plainClient(hosts, keyspace)
  try {
    return (await client.execute("select job_id from job_history_by_id")).rows.length
  } finally {
    await client.shutdown()
  }
}
