/** Two built daemons on the same PostgreSQL, Redis and Cassandra do not get in each other's way. */
import assert from "node:assert/strict"
import { fork } from "node:child_process"
import { once } from "node:events"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { ControlService, SagaState } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { LockService } from "../../src/gen/keelplane/v1/lock_service_pb.ts"
import { cassandraSkip } from "../engines/cassandra.ts"
import { ownServerSkip as sqlSkip } from "../engines/postgres.ts"
import { ownServerSkip as redisSkip } from "../engines/redis.ts"
import { until } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { Arena } from "./arena.ts"

const ENGINES = [
  ["PostgreSQL and Redis", "postgres", sqlSkip || redisSkip],
  ["PostgreSQL, Redis and Cassandra", "cassandra", sqlSkip || redisSkip || cassandraSkip],
] as const
const HOLDER = fileURLToPath(new URL("./holder.ts", import.meta.url))
const WRITERS = 8
const ROUNDS = 12

/** Whether a call failed as one of the reasons. */
function isReason(error: unknown, ...reasons: readonly string[]): error is CallError {
  return error instanceof CallError && reasons.includes(error.reason)
}

for (const [name, events, skip] of ENGINES) {
  describe(`two daemons on ${name}`, { skip, timeout: 600_000 }, () => {
    let arena: Arena
    before(async () => {
      arena = await Arena.open(events)
    })
    after(() => arena?.close())
    const channel = (number: number): Channel => {
      const seat = arena.seats[number % arena.seats.length]
      assert.ok(seat !== undefined)
      return seat.channel
    }
    const all = <T>(count: number, work: (channel: Channel, number: number) => Promise<T>) =>
      Promise.all(Array.from({ length: count }, (_, number) => work(channel(number), number)))

    it("lose and double nothing when appenders race", () => racingAppenders(channel, all))
    it("have one holder of a lock at a time, with rising tokens", () => oneHolder(all))
    it("refuse a holder that was frozen past its lease", () => frozenHolder(arena))
    it("give each job to one worker", () => jobsOnce(channel, all))
    it("never fork a configuration's versions", () => versions(channel, all))
    it("do what is owed to other stores once, also when one of them is killed meanwhile", () => owed(arena))
  })
}

type Get = (number: number) => Channel
type All = <T>(count: number, work: (channel: Channel, number: number) => Promise<T>) => Promise<T[]>

async function racingAppenders(channel: Get, all: All): Promise<void> {
  const acknowledged = new Map<bigint, string>()
  await all(WRITERS, async (mine, number) => {
    let head = 0n
    for (let round = 0; round < ROUNDS; round++) {
      const type = `w${number}.${round}`
      // Half of the writers insist on what they saw last.
      const expected =
        number < WRITERS / 2
          ? ({ case: "any", value: true } as const)
          : ({ case: "revision", value: head } as const)
      try {
        const answer = await mine
          .stub(EventService)
          .appendEvents({ stream: "race", events: [{ type }], expected })
        assert.ok(!acknowledged.has(answer.lastRevision), `revision ${answer.lastRevision} was given twice`)
        acknowledged.set(answer.lastRevision, type)
        head = answer.lastRevision
      } catch (error) {
        if (!isReason(error, "REVISION_MISMATCH")) throw error
        head = BigInt(error.metadata.actual ?? 0)
      }
    }
  })
  const kept: [bigint, string][] = []
  for await (const { events } of channel(1).stub(EventService).readStream({ stream: "race" })) {
    for (const { revision, type } of events) kept.push([revision, type])
  }
  assert.deepEqual(
    kept,
    [...acknowledged].sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}

async function oneHolder(all: All): Promise<void> {
  let holders = 0
  let highest = 0n
  let turns = 0
  await all(WRITERS, async (mine, number) => {
    const locks = mine.stub(LockService)
    for (let taken = 0; taken < 3; ) {
      const lease = { ttl: { seconds: 60n }, wait: { seconds: 20n } }
      const answer = await locks.acquireLock({ name: "one", ownerId: `w${number}`, ...lease })
      if (!answer.acquired) continue
      assert.equal(++holders, 1, "two hold the lock")
      assert.ok(answer.token > highest, "the token did not rise")
      highest = answer.token
      taken++
      turns++
      // Gives others the time to come in, if they could.
      await new Promise((resolve) => setTimeout(resolve, 5))
      holders--
      await locks.releaseLock({ name: "one", token: answer.token })
    }
  })
  assert.equal(turns, WRITERS * 3)
}

/** What a lock protects: it keeps the highest token that it has seen. */
class Resource {
  highest = 0
  accepted = 0
  refused = 0

  use(token: number): void {
    if (token < this.highest) this.refused++
    else {
      this.accepted++
      this.highest = token
    }
  }
}

async function frozenHolder(arena: Arena): Promise<void> {
  const [left, right] = arena.seats
  assert.ok(left !== undefined && right !== undefined)
  const resource = new Resource()
  const refusals: string[] = []
  const worker = fork(HOLDER, [left.daemon.address, "frozen", "1500"])
  const gone = once(worker, "exit")
  try {
    worker.on("message", (message: { token?: number; refused?: string }) => {
      if (message.token !== undefined) resource.use(message.token)
      if (message.refused !== undefined) refusals.push(message.refused)
    })
    await until(() => resource.accepted >= 3, "the worker to use its lock")
    worker.kill("SIGSTOP")
    const request = { name: "frozen", ownerId: "next", ttl: { seconds: 60n }, wait: { seconds: 60n } }
    const next = await right.channel.stub(LockService).acquireLock(request, { timeoutMs: 90_000 })
    assert.equal(next.acquired, true)
    // What the worker had sent before it was stopped is in order, and arrives late.
    const before = resource.accepted
    resource.use(Number(next.token))
    worker.kill("SIGCONT")
    await gone
    assert.ok(Number(next.token) > 0 && resource.highest === Number(next.token))
    assert.ok(resource.accepted === before + 1, "the resource took a write of who had lost the lock")
    assert.deepEqual(refusals, ["LOCK_NOT_HELD"])
  } finally {
    worker.kill("SIGKILL")
  }
}

async function jobsOnce(channel: Get, all: All): Promise<void> {
  const count = 60
  const jobs = Array.from({ length: count }, () => ({ queue: "shared" }))
  await channel(0).stub(JobService).enqueueJobs({ jobs })
  const taken = new Map<string, number>()
  await all(WRITERS, async (mine, number) => {
    const service = mine.stub(JobService)
    for (;;) {
      const request = { workerId: `w${number}`, queues: ["shared"], maxJobs: 3, lease: { seconds: 120n } }
      const { jobs: claimed } = await service.claimJobs(request)
      if (claimed.length === 0) return
      for (const { job, leaseToken } of claimed) {
        const jobId = job?.jobId ?? ""
        taken.set(jobId, (taken.get(jobId) ?? 0) + 1)
        await service.completeJob({ jobId, leaseToken })
      }
    }
  })
  assert.equal(taken.size, count)
  assert.deepEqual(new Set(taken.values()), new Set([1]))
}

async function versions(channel: Get, all: All): Promise<void> {
  const written = new Map<bigint, string>()
  await all(WRITERS, async (mine, number) => {
    const control = mine.stub(ControlService)
    let version = 0n
    for (let round = 0; round < ROUNDS; round++) {
      const text = `w${number}.${round}`
      const value = { case: "structValue", value: { text } } as const
      try {
        const { config } = await control.putConfig({ key: "shared", value, ifVersion: version })
        version = config?.version ?? 0n
        assert.ok(!written.has(version), `version ${version} was given twice`)
        written.set(version, text)
      } catch (error) {
        if (!isReason(error, "REVISION_MISMATCH")) throw error
        version = BigInt(error.metadata.actual ?? 0)
      }
    }
  })
  const control = channel(1).stub(ControlService)
  for (const [version, text] of written) {
    const { config } = await control.getConfig({ key: "shared", at: { case: "version", value: version } })
    assert.deepEqual(config?.value.value, { text })
  }
  const { config } = await control.getConfig({ key: "shared" })
  assert.equal(config?.version, BigInt(written.size))
}

const AGENTS = 24

async function owed(arena: Arena): Promise<void> {
  const acknowledged = new Set<string>()
  const [first] = arena.seats
  assert.ok(first !== undefined)
  const create = async (id: string): Promise<void> => {
    // As a client library does it: the same call again, until there is an answer.
    for (let attempt = 0; !acknowledged.has(id); attempt++) {
      const seat = arena.seats.filter(({ alive }) => alive)[attempt % 2] ?? arena.seat(0)
      try {
        const provision = { collection: { id: `of-${id}`, dimension: 3 }, stream: true }
        const request = { agent: { agentId: id }, provision, requestId: `create-${id}` }
        await seat?.channel.stub(ControlService).createAgent(request)
        if (seat !== undefined) acknowledged.add(id)
      } catch (error) {
        if (!(error instanceof CallError) || attempt > 60) throw error
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
  }
  const creating = (async () => {
    for (let n = 0; n < AGENTS; n += 4)
      await Promise.all([0, 1, 2, 3].map((offset) => create(`agent-${n + offset}`)))
  })()
  await until(() => acknowledged.size >= AGENTS / 4, "some agents")
  await arena.kill(first)
  await creating
  const channel = first.channel
  await until(async () => {
    const { topics, parkedEntries } = await channel.stub(AdminService).listOutbox({})
    assert.deepEqual(parkedEntries, [])
    return topics.every(({ pendingCount }) => pendingCount === 0n)
  }, "an empty outbox")
  const control = channel.stub(ControlService)
  await until(async () => {
    const { sagas } = await control.listSagas({ pageSize: 1_000 })
    assert.equal(new Set(sagas.map(({ sagaId }) => sagaId)).size, sagas.length)
    return sagas.length === AGENTS && sagas.every(({ state }) => state === SagaState.DONE)
  }, "every flow to be done")
  for (const id of acknowledged) {
    const types: string[] = []
    for await (const { events } of channel.stub(EventService).readStream({ stream: `agent-${id}` }))
      for (const { type } of events) types.push(type)
    assert.deepEqual(types, ["agent.created"], id)
  }
  const query = { action: "CreateAgent" }
  const audit = channel.stub(AuditService)
  const { records } = await audit.queryAudit({ query, pageSize: 1_000 })
  assert.deepEqual(records.map(({ resourceId }) => resourceId).sort(), [...acknowledged].sort())
  assert.equal((await audit.verifyAudit({})).intact, true)
}
