/**
 * SIGKILL in the middle of writes, again and again on one data directory: after each restart every acknowledged write is
 * there. Acknowledgements are noted in this process, outside the daemon.
 */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import test from "node:test"
import { AuditOutcome, AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { BillingService, UsageAggregation } from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"

/** How often it is killed. `KEELPLANE_KILLS` deepens it. */
const KILLS = Number(process.env.KEELPLANE_KILLS ?? 5)
const STREAMS = 4

/** What the daemon has acknowledged. */
interface Acknowledged {
  /** Last acknowledged revision by stream. */
  readonly streams: Map<string, bigint>
  readonly records: Set<string>
  readonly jobs: Set<string>
  /** Last acknowledged version of the one configuration key. */
  version: bigint
  usage: number
  audit: number
}

/** Repeats a write until the channel breaks; counts as acknowledged only what was answered. */
async function writeUntilCut(write: () => Promise<void>): Promise<void> {
  for (;;) {
    try {
      await write()
    } catch (error) {
      assert.ok(error instanceof CallError, String(error))
      assert.ok([1, 4, 14, 13, 2].includes(error.code), error.message)
      return
    }
  }
}

function writers(channel: Channel, done: Acknowledged, round: number): Promise<void>[] {
  const events = channel.stub(EventService)
  const memory = channel.stub(MemoryService)
  const jobs = channel.stub(JobService)
  const control = channel.stub(ControlService)
  const billing = channel.stub(BillingService)
  const audit = channel.stub(AuditService)
  let next = 0
  const all: Promise<void>[] = []
  for (let index = 0; index < STREAMS; index++) {
    const stream = `kill-${index}`
    all.push(
      writeUntilCut(async () => {
        const answer = await events.appendEvents({ stream, events: [{ type: "beat" }, { type: "beat" }] })
        done.streams.set(stream, answer.lastRevision)
      }),
    )
  }
  all.push(
    writeUntilCut(async () => {
      const id = `r-${round}-${next++}`
      await memory.upsertRecords({
        collectionId: "kill",
        records: [{ id, vector: { data: { case: "values", value: { values: [1, 2, 3] } } } }],
      })
      done.records.add(id)
    }),
    writeUntilCut(async () => {
      const { job } = await jobs.enqueueJob({ job: { queue: "kill" } })
      done.jobs.add(job?.jobId ?? "")
    }),
    writeUntilCut(async () => {
      const { config } = await control.putConfig({
        key: "kill",
        value: { case: "structValue", value: { round } },
      })
      done.version = config?.version ?? 0n
    }),
    writeUntilCut(async () => {
      await billing.recordUsage({
        events: [{ eventId: `u-${round}-${next++}`, meter: "kill", quantity: "1" }],
      })
      done.usage++
    }),
    writeUntilCut(async () => {
      await audit.recordAudit({
        records: [
          {
            actor: "killer",
            action: "kill.beat",
            resourceType: "x",
            resourceId: "y",
            outcome: AuditOutcome.SUCCESS,
          },
        ],
      })
      done.audit++
    }),
  )
  return all
}

async function check(channel: Channel, done: Acknowledged): Promise<void> {
  const events = channel.stub(EventService)
  for (const [stream, revision] of done.streams) {
    let expected = 1n
    for await (const { events: part } of events.readStream({ stream })) {
      for (const event of part) assert.equal(event.revision, expected++, `${stream} has a gap`)
    }
    const head = expected - 1n
    assert.ok(head >= revision, `${stream} ends at ${head}, ${revision} was acknowledged`)
    assert.equal(head % 2n, 0n, `${stream} has half a batch`)
  }
  const memory = channel.stub(MemoryService)
  const ids = [...done.records]
  for (let index = 0; index < ids.length; index += 500) {
    const wanted = ids.slice(index, index + 500)
    const { records } = await memory.getRecords({ collectionId: "kill", ids: wanted })
    assert.equal(records.length, wanted.length, "acknowledged records are gone")
  }
  const jobs = channel.stub(JobService)
  for (const jobId of done.jobs) await jobs.getJob({ jobId })
  const { config } = await channel.stub(ControlService).getConfig({ key: "kill" })
  assert.ok((config?.version ?? 0n) >= done.version, "an acknowledged configuration version is gone")
  const usage = await channel
    .stub(BillingService)
    .getUsage({ meter: "kill", aggregation: UsageAggregation.COUNT })
  const counted = usage.rows.reduce((sum, row) => sum + Number(row.eventCount), 0)
  assert.ok(counted >= done.usage, `${counted} usage events, ${done.usage} acknowledged`)
  const audit = channel.stub(AuditService)
  const { total } = await audit.summarizeAudit({ query: { actor: "killer" } })
  assert.ok(Number(total) >= done.audit, `${total} audit records, ${done.audit} acknowledged`)
  assert.equal((await audit.verifyAudit({})).intact, true, "the audit chain is broken")
}

test(`every acknowledged write is there after ${KILLS} kills`, async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "keelplane-kill-"))
  const done: Acknowledged = {
    streams: new Map(),
    records: new Set(),
    jobs: new Set(),
    version: 0n,
    usage: 0,
    audit: 0,
  }
  let daemon: Daemon | undefined
  try {
    for (let round = 0; round < KILLS; round++) {
      daemon = await startDaemon({ dataDir })
      const channel = daemon.channel()
      if (round === 0) {
        await channel.stub(MemoryService).createCollection({ collection: { id: "kill", dimension: 3 } })
      }
      const before = done.records.size + done.usage
      const running = writers(channel, done, round)
      // Kill while writes are under way, at a point that differs between rounds.
      await until(
        () => done.records.size + done.usage >= before + 20 + round * 13,
        "some writes to be acknowledged",
      )
      await daemon.end("SIGKILL")
      await Promise.all(running)
      channel.close()
      daemon = await startDaemon({ dataDir })
      const reader = daemon.channel()
      await check(reader, done)
      reader.close()
      await daemon.end("SIGKILL")
    }
    t.diagnostic(
      `acknowledged: ${[...done.streams.values()].reduce((sum, each) => sum + each, 0n)} events, ${done.records.size} records, ${done.jobs.size} jobs, ${done.version} versions, ${done.usage} usage events, ${done.audit} audit records`,
    )
  } finally {
    await daemon?.end("SIGKILL")
    rmSync(dataDir, { recursive: true, force: true })
  }
})
