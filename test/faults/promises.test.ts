/** What holds whatever a store does: calls end with their deadlines, and cancelled calls leave nothing behind. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import pg from "pg"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { ask, ownServerSkip, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"

const CALLS = 40
const DEADLINE_MS = 500
/** The promise is 50 ms; the rest is what busy machines add. */
const MOST_LATE_MS = 4_000

describe("a store that does not answer", { skip: ownServerSkip, timeout: 300_000 }, () => {
  let server: PostgresServer
  let daemon: Daemon
  let channel: Channel
  let blocker: pg.Client

  before(async () => {
    server = await startPostgres()
    daemon = await startDaemon({ env: { KEELPLANE_STORES__CONTROL__URL: server.url } })
    channel = daemon.channel()
    await channel.stub(JobService).enqueueJob({ job: { queue: "first" } })
    // Everything about jobs waits for this transaction.
    blocker = new pg.Client({ connectionString: server.url })
    await blocker.connect()
    await blocker.query("begin")
    await blocker.query("lock table keelplane.jobs in access exclusive mode")
  })
  after(async () => {
    await blocker?.end()
    channel?.close()
    await daemon?.stop()
    await server?.remove()
  })

  /** Queries that wait, without the sweep of jobs, which comes every few seconds and has longer to wait than any call; and whether that does. */
  const waiting = async () => {
    const rows = await ask(
      server.url,
      "select query ~ '^with (lost|old) as' as sweeps from pg_stat_activity where wait_event_type = 'Lock' and pid <> pg_backend_pid()",
    )
    const sweeps = rows.filter((row) => row.sweeps === true).length
    return { calls: rows.length - sweeps, sweeps }
  }
  const inFlight = async () => {
    const metrics = await (await fetch(`http://${daemon.opsAddress}/metrics`)).text()
    const gauges = [...metrics.matchAll(/^keelplane_bulkhead_calls_in_flight\{[^}]*\} (\d+)/gm)]
    assert.ok(gauges.length > 0, "there is no such gauge")
    return gauges.reduce((sum, [, value]) => sum + Number(value), 0)
  }

  it("ends no call long after its deadline", async (t) => {
    const late = await Promise.all(
      Array.from({ length: CALLS }, async (_, index) => {
        const method = index % 2 === 0 ? "ListJobs" : "EnqueueJob"
        const body = method === "ListJobs" ? {} : { job: { queue: "late" } }
        const started = performance.now()
        // Nothing but the daemon ends this call.
        const answer = await fetch(`http://${daemon.address}/keelplane.v1.JobService/${method}`, {
          method: "POST",
          headers: { "content-type": "application/json", "connect-timeout-ms": String(DEADLINE_MS) },
          body: JSON.stringify(body),
        })
        await answer.text()
        assert.notEqual(answer.status, 200)
        return performance.now() - started - DEADLINE_MS
      }),
    )
    const worst = Math.round(Math.max(...late))
    t.diagnostic(`the latest answer came ${worst} ms after its deadline`)
    assert.ok(worst <= MOST_LATE_MS, `${worst} ms after its deadline`)
  })

  it("leaves no query running behind cancelled calls, and no call in flight", async () => {
    const cancel = new AbortController()
    const jobs = channel.stub(JobService)
    const options = { signal: cancel.signal }
    const calls = Array.from({ length: CALLS }, (_, index) =>
      index % 2 === 0 ? jobs.listJobs({}, options) : jobs.enqueueJob({ job: { queue: "gone" } }, options),
    )
    const ends = calls.map((call) =>
      assert.rejects(call, (error) => error instanceof CallError && error.code === 1),
    )
    await until("queries wait for the lock", async () => (await waiting()).calls > 0)
    cancel.abort()
    await Promise.all(ends)
    await until("no query of the daemon waits for the lock", async () => (await waiting()).calls === 0)
    await until("no call is in flight", async () => (await inFlight()) <= (await waiting()).sweeps)
  })

  it("serves as before when the store answers again", async () => {
    await blocker.query("rollback")
    const jobs = channel.stub(JobService)
    await until("jobs are listed", () =>
      jobs.listJobs({}).then(
        () => true,
        () => false,
      ),
    )
    const { jobs: all } = await jobs.listJobs({ queue: "gone" })
    assert.deepEqual(all, [], "a cancelled call has taken effect")
  })
})
