/** A daemon whose tenants are in classes: what they have is kept for as long as their class has it, on either mix of engines. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { SessionService } from "../../src/gen/keelplane/v1/session_service_pb.ts"
import {
  administer,
  atEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
  plainClient,
} from "../engines/cassandra.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"

const DAY_MS = 86_400_000
const READY = { readyTimeoutMs: 120_000 }
const CLASSES = JSON.stringify({
  trial: { tenants: ["trial-*"], sessions_days: 2, jobs_days: 7 },
  bank: { tenants: ["bank"], jobs_days: 800 },
})
/** Days that sessions and jobs are kept for. */
const TENANTS = { default: [30, 365], "trial-1": [2, 7], bank: [30, 800] } as const

const days = (from: Timestamp | undefined, to: Timestamp | undefined): number =>
  from === undefined || to === undefined ? Number.NaN : (timestampMs(to) - timestampMs(from)) / DAY_MS

/** Gives a tenant a session and an ended job; answers the days they are kept and the job's id. */
async function live(daemon: Daemon, tenant: string) {
  const channel = daemon.channel({ "x-keelplane-tenant": tenant })
  try {
    const jobs = channel.stub(JobService)
    const { session } = await channel.stub(SessionService).createSession({ session: {} })
    const expiry = session?.expiration
    const { job } = await jobs.enqueueJob({ job: { queue: "q" } })
    const ended = (await jobs.cancelJob({ jobId: job?.jobId ?? "" })).job
    return {
      kept: [
        days(session?.createTime, expiry?.case === "expireTime" ? expiry.value : undefined),
        days(ended?.endTime, ended?.expireTime),
      ],
      jobId: ended?.jobId ?? "",
    }
  } finally {
    channel.close()
  }
}

async function makeTenants(daemon: Daemon): Promise<void> {
  const channel = daemon.channel()
  try {
    for (const tenantId of Object.keys(TENANTS)) {
      if (tenantId !== "default") await channel.stub(ControlService).createTenant({ tenant: { tenantId } })
    }
  } finally {
    channel.close()
  }
}

describe("retention by classes of tenants", { timeout: 600_000 }, () => {
  it("is what the embedded engines keep to", async () => {
    const daemon = await startDaemon({ env: { KEELPLANE_RETENTION__CLASSES: CLASSES } })
    try {
      await makeTenants(daemon)
      for (const [tenant, expected] of Object.entries(TENANTS)) {
        assert.deepEqual((await live(daemon, tenant)).kept, expected, tenant)
      }
    } finally {
      await daemon.stop()
    }
  })

  it("has tables for each class on Cassandra, in which nothing is lost when a tenant changes its class", {
    skip: cassandraSkip,
  }, async () => {
    const hosts = await cassandraHosts()
    const keyspace = freshKeyspace()
    atEnd(() => administer(hosts, `drop keyspace if exists ${keyspace}`))
    const env = {
      KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1`,
      KEELPLANE_RETENTION__JOBS_QUEUE_HOURS: "0",
    }
    const first = await startDaemon({ env: { ...env, KEELPLANE_RETENTION__CLASSES: CLASSES }, ...READY })
    const rows = async (table: string) => {
      const client = await plainClient(hosts, keyspace)
      try {
        return (await client.execute(`select tenant from ${table}`)).rows.map((row) => String(row.tenant))
      } finally {
        await client.shutdown()
      }
    }
    let second: Daemon | undefined
    try {
      await makeTenants(first)
      const made = new Map<string, string>()
      for (const [tenant, expected] of Object.entries(TENANTS)) {
        const { kept, jobId } = await live(first, tenant)
        assert.deepEqual(kept, expected, tenant)
        made.set(tenant, jobId)
      }
      for (const [table, tenant] of [
        ["job_history_by_id", "default"],
        ["job_history_by_id_in_trial", "trial-1"],
        ["job_history_by_id_in_bank", "bank"],
      ] as const) {
        await until(async () => (await rows(table)).length > 0, `the job to be in ${table}`, 120_000)
        assert.deepEqual(await rows(table), [tenant])
      }
      await first.end("SIGTERM")
      // Nobody is in a class any more.
      second = await startDaemon({ env, dataDir: first.dataDir, ...READY })
      for (const [tenant, jobId] of made) {
        const channel = second.channel({ "x-keelplane-tenant": tenant })
        try {
          const jobs = channel.stub(JobService)
          assert.equal((await jobs.getJob({ jobId })).job?.jobId, jobId)
          assert.deepEqual(
            (await jobs.listJobs({})).jobs.map((job) => job.jobId),
            [jobId],
          )
        } finally {
          channel.close()
        }
      }
    } finally {
      await second?.stop()
      await first.stop()
    }
  })
})
