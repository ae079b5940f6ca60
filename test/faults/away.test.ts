/**
 * Stores that are away while the daemon runs: credentials that were verified keep working for a bounded time without PostgreSQL, calls
 * that need the store fail fast, and everything else stays as it was.
 */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { JobService } from "../../src/gen/keelplane/v1/job_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { SessionService } from "../../src/gen/keelplane/v1/session_service_pb.ts"
import { administer, cassandraHosts, cassandraSkip, freshKeyspace } from "../engines/cassandra.ts"
import { ownServerSkip, startPostgres } from "../engines/postgres.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"
import { COLLECTION, vector } from "./callers.ts"

const PLATFORM_TOKEN = "token-of-the-platform-in-this-test-0001"
/** Beyond the ten seconds for which nobody asks the store again anyway. */
const GRACE_MS = 15_000
/** A call that waits for a store which is away takes its whole deadline, this one or more. */
const DEADLINE_MS = 30_000
const PATIENCE_MS = 60_000
const CALLS = 60

const isAway = (error: unknown) => error instanceof CallError && error.reason === "STORE_UNAVAILABLE"
const text = (value: string) => ({ case: "text", value }) as const

/** Calls fail because the store is away, long before their deadlines; answers how long they took, the median. */
async function failsFast(call: () => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let n = 0; n < CALLS; n++) {
    const started = performance.now()
    await assert.rejects(call(), isAway)
    times.push(performance.now() - started)
  }
  const [median = 0] = times.toSorted((a, b) => a - b).slice(CALLS / 2)
  assert.ok(median < DEADLINE_MS / 10, `calls took ${median} ms to fail`)
  return median
}

describe("PostgreSQL is away", { skip: ownServerSkip, timeout: 300_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-degraded-"))
  let proxy: TcpProxy
  let daemon: Daemon
  const channels: Channel[] = []
  const open = (token: string) => {
    const channel = daemon.channel({ authorization: `Bearer ${token}` })
    channels.push(channel)
    return channel
  }
  before(async () => {
    const server = await startPostgres()
    proxy = await TcpProxy.to(server.port)
    const file = join(folder, "tokens")
    writeFileSync(file, `${PLATFORM_TOKEN}\n`, { mode: 0o600 })
    daemon = await startDaemon({
      env: {
        KEELPLANE_AUTH__MODE: "required",
        KEELPLANE_AUTH__TOKEN_FILE: file,
        KEELPLANE_AUTH__GRACE_MS: String(GRACE_MS),
        KEELPLANE_STORES__CONTROL__URL: server.url.replace(`:${server.port}`, `:${proxy.port}`),
      },
    })
  })
  after(async () => {
    for (const channel of channels) channel.close()
    await daemon?.stop()
    await proxy?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it("and who was verified goes on with the other planes for a while, and nobody else gets in", async (t) => {
    const platform = open(PLATFORM_TOKEN).stub(ControlService)
    await platform.createTenant({ tenant: { tenantId: "acme" } })
    const headers = { "x-keelplane-tenant": "acme" }
    const make = async (name: string) =>
      (await platform.createApiKey({ name, permissions: ["*"] }, { headers })).token
    const known = open(await make("known"))
    const unseen = open(await make("unseen"))
    await known.stub(CacheService).set({ key: "k", value: text("v") })
    const verified = performance.now()
    await proxy.refuse()

    await known.stub(EventService).appendEvents({ stream: "s", events: [{ type: "e" }] })
    assert.equal((await known.stub(CacheService).get({ key: "k" })).found, true)
    await known.stub(MemoryService).listCollections({})
    await assert.rejects(unseen.stub(CacheService).get({ key: "k" }), isAway)
    const control = await failsFast(() => known.stub(ControlService).listUsers({}))
    const jobs = await failsFast(() => known.stub(JobService).enqueueJob({ job: { queue: "q" } }))
    t.diagnostic(`control calls failed after ${control.toFixed(1)} ms, jobs after ${jobs.toFixed(1)} ms`)

    let lasted = 0
    await until(
      "the key is believed no longer",
      async () => {
        try {
          await known.stub(CacheService).get({ key: "k" })
          lasted = performance.now() - verified
          return false
        } catch (error) {
          assert.ok(isAway(error), String(error))
          return true
        }
      },
      PATIENCE_MS,
    )
    t.diagnostic(`the key was believed for ${Math.round(lasted)} of ${GRACE_MS} ms`)
    assert.ok(performance.now() - verified >= GRACE_MS - 1_000, "it was refused too early")

    await proxy.accept()
    await until("the key is verified again", () => succeeds(() => known.stub(CacheService).get({ key: "k" })))
    await until("control is back", () => succeeds(() => known.stub(ControlService).listUsers({})))
  })
})

describe("Cassandra is away", { skip: cassandraSkip, timeout: 400_000 }, () => {
  const keyspace = freshKeyspace()
  let hosts: string
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel
  before(async () => {
    hosts = await cassandraHosts()
    proxy = await TcpProxy.to(Number(new URL(hosts.replace(/^\w+:/, "http:")).port))
    daemon = await startDaemon({
      readyTimeoutMs: 180_000,
      env: { KEELPLANE_STORES__EVENTS__URL: `cassandra://127.0.0.1:${proxy.port}/${keyspace}?replication=1` },
    })
    channel = daemon.channel()
  })
  after(async () => {
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await administer(hosts, `drop keyspace if exists ${keyspace}`)
  })

  it("and calls about events fail fast, while cache, memory and control stay", async (t) => {
    const events = channel.stub(EventService)
    const append = () => events.appendEvents({ stream: "s", events: [{ type: "e" }] })
    await append()
    await channel.stub(MemoryService).createCollection({ collection: { id: COLLECTION, dimension: 3 } })
    await proxy.refuse()
    // What was under way when the connections broke may have been made.
    await until("appends are refused", async () => {
      try {
        await append()
        return false
      } catch (error) {
        assert.ok(error instanceof CallError, String(error))
        return isAway(error)
      }
    })
    const appends = await failsFast(append)
    const sessions = await failsFast(() => channel.stub(SessionService).getSession({ sessionId: "s" }))
    t.diagnostic(`appends failed after ${appends.toFixed(1)} ms, sessions after ${sessions.toFixed(1)} ms`)
    await channel.stub(CacheService).set({ key: "k", value: text("v") })
    await channel
      .stub(MemoryService)
      .upsertRecords({ collectionId: COLLECTION, records: [{ id: "r", vector: vector() }] })
    await channel.stub(ControlService).createUser({ user: { userId: "u" } })
    await proxy.accept()
    await until("appends succeed again", () => succeeds(append), PATIENCE_MS)
  })
})

async function succeeds(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call()
    return true
  } catch (error) {
    assert.ok(error instanceof CallError, String(error))
    return false
  }
}
