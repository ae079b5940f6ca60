/** What a daemon does when it is killed, and what must be there afterwards, whatever the engines are. */
import assert from "node:assert/strict"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { AuditOutcome, AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { BillingService, UsageAggregation } from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import { ControlService, SagaState } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { type Daemon, type DaemonOptions, startDaemon, until } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"

const STREAMS = 4
/** What is owed to another store is tried again after pauses that grow. */
const SETTLE_MS = 120_000

/** What the daemon has acknowledged. */
export interface Acknowledged {
  /** Last acknowledged revision by stream. */
  readonly streams: Map<string, bigint>
  readonly records: Set<string>
  readonly jobs: Set<string>
  /** Users, whose creation is recorded in the audit log, by way of the outbox where that is elsewhere. */
  readonly users: Set<string>
  /** Agents with a collection and a stream, made by a flow over several stores. */
  readonly agents: Set<string>
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
      const userId = `u-${round}-${next++}`
      await control.createUser({ user: { userId } })
      done.users.add(userId)
    }),
    writeUntilCut(async () => {
      const agentId = `a-${round}-${next++}`
      const provision = { collection: { id: `of-${agentId}`, dimension: 3 }, stream: true }
      await control.createAgent({ agent: { agentId }, provision })
      done.agents.add(agentId)
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
  await settle(channel)
  await checkFlows(channel, done)
  const audit = channel.stub(AuditService)
  const { total } = await audit.summarizeAudit({ query: { actor: "killer" } })
  assert.ok(Number(total) >= done.audit, `${total} audit records, ${done.audit} acknowledged`)
  assert.equal((await audit.verifyAudit({})).intact, true, "the audit chain is broken")
}

/** Waits until nothing is owed to another store, and no flow is under way. */
async function settle(channel: Channel): Promise<void> {
  const admin = channel.stub(AdminService)
  const owesNothing = async () => {
    const { topics, parkedEntries } = await admin.listOutbox({})
    assert.deepEqual(parkedEntries, [], "entries of the outbox were given up")
    return topics.every(({ pendingCount }) => pendingCount === 0n)
  }
  await until(owesNothing, "an empty outbox", SETTLE_MS)
  const control = channel.stub(ControlService)
  const unfinished = async () => {
    const { sagas } = await control.listSagas({ state: SagaState.RUNNING })
    return sagas.length === 0
  }
  await until(unfinished, "every flow to end", SETTLE_MS)
}

async function checkFlows(channel: Channel, done: Acknowledged): Promise<void> {
  const control = channel.stub(ControlService)
  for (const state of [SagaState.STUCK, SagaState.COMPENSATING])
    assert.deepEqual((await control.listSagas({ state })).sagas, [], `flows in state ${state}`)
  for (const agentId of done.agents) {
    await control.getAgent({ agentId })
    await channel.stub(MemoryService).getCollection({ collectionId: `of-${agentId}` })
    const types: string[] = []
    for await (const { events } of channel.stub(EventService).readStream({ stream: `agent-${agentId}` }))
      for (const { type } of events) types.push(type)
    assert.deepEqual(types, ["agent.created"], agentId)
  }
  const recorded: string[] = []
  for (let pageToken = ""; ; ) {
    const query = { action: "CreateUser" }
    const page = await channel.stub(AuditService).queryAudit({ query, pageSize: 1_000, pageToken })
    recorded.push(...page.records.map(({ resourceId }) => resourceId))
    pageToken = page.nextPageToken
    if (pageToken === "") break
  }
  const once = new Set(recorded)
  assert.equal(once.size, recorded.length, "a change is in the audit log twice")
  assert.deepEqual(
    [...done.users].filter((user) => !once.has(user)),
    [],
    "acknowledged changes are not in the audit log",
  )
}

/** Kills a daemon `kills` times in the middle of writes, each time checking what is there; answers what was acknowledged. */
export async function killAgainAndAgain(options: DaemonOptions, kills: number): Promise<Acknowledged> {
  const done: Acknowledged = {
    streams: new Map(),
    records: new Set(),
    jobs: new Set(),
    users: new Set(),
    agents: new Set(),
    version: 0n,
    usage: 0,
    audit: 0,
  }
  let daemon: Daemon | undefined
  try {
    for (let round = 0; round < kills; round++) {
      daemon = await startDaemon(options)
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
      daemon = await startDaemon(options)
      const reader = daemon.channel()
      await check(reader, done)
      reader.close()
      await daemon.end("SIGKILL")
    }
  } finally {
    await daemon?.end("SIGKILL")
  }
  return done
}

/** What was acknowledged, for people. */
export function summaryOf(done: Acknowledged): string {
  const events = [...done.streams.values()].reduce((sum, each) => sum + each, 0n)
  return `acknowledged: ${events} events, ${done.records.size} records, ${done.jobs.size} jobs, ${done.users.size} users, ${done.agents.size} agents, ${done.version} versions, ${done.usage} usage events, ${done.audit} audit records`
}
