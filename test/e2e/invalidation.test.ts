/** What an agent has cached of a configuration is absent after the configuration has changed, wherever the cache is. */
import assert from "node:assert/strict"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, it } from "node:test"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { administer, atEnd, cassandraHosts, cassandraSkip, freshKeyspace } from "../engines/cassandra.ts"
import { redisSkip, startRedis } from "../engines/redis.ts"
import { startDaemon, until } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"

const TAG = "control/config/prompt"
const OTHER = "control/config/other"

const put = (channel: Channel, key: string, text: string) =>
  channel.stub(ControlService).putConfig({ key, value: { case: "structValue", value: { text } } })

async function cacheConfigs(channel: Channel): Promise<void> {
  const cache = channel.stub(CacheService)
  for (const namespace of ["", "tool-results"]) {
    await cache.set({ namespace, key: "prompt", value: { case: "text", value: "old" }, tags: [TAG] })
    await cache.set({ namespace, key: "other", value: { case: "text", value: "old" }, tags: [OTHER] })
  }
}

/** Which of the cached ones are there. */
async function there(channel: Channel): Promise<readonly boolean[]> {
  const cache = channel.stub(CacheService)
  const found: boolean[] = []
  for (const namespace of ["", "tool-results"])
    for (const key of ["prompt", "other"]) found.push((await cache.get({ namespace, key })).found)
  return found
}

async function redis(): Promise<Record<string, string>> {
  return { KEELPLANE_STORES__CACHE__URL: (await startRedis()).url }
}

async function redisAndCassandra(): Promise<Record<string, string>> {
  const hosts = await cassandraHosts()
  const keyspace = freshKeyspace()
  atEnd(() => administer(hosts, `drop keyspace if exists ${keyspace}`))
  const events = { KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1` }
  return { ...(await redis()), ...events, KEELPLANE_STORES__EVENTS__CONFIGS: "true" }
}

const MIXES: readonly (readonly [string, string | false, () => Promise<Record<string, string>>])[] = [
  ["in the daemon", false, async () => ({})],
  ["on Redis", redisSkip, redis],
  ["on Redis, of a configuration on Cassandra", redisSkip || cassandraSkip, redisAndCassandra],
]

describe("a cached configuration", { timeout: 600_000 }, () => {
  for (const [name, skip, environment] of MIXES) {
    it(`is absent soon after a change: ${name}`, { skip }, async () => {
      const daemon = await startDaemon({ env: await environment(), readyTimeoutMs: 120_000 })
      const channel = daemon.channel()
      try {
        for (const key of ["prompt", "other"]) await put(channel, key, "old")
        const { topics } = await channel.stub(AdminService).listOutbox({})
        await until(async () => {
          const now = (await channel.stub(AdminService).listOutbox({})).topics
          return now.every(({ pendingCount }) => pendingCount === 0n)
        }, `the outbox to be empty, in which were ${topics.length} topics`)
        await cacheConfigs(channel)
        assert.deepEqual(await there(channel), [true, true, true, true])
        await put(channel, "prompt", "new")
        if (name === "in the daemon") assert.deepEqual(await there(channel), [false, true, false, true])
        const gone = async () => (await there(channel)).join() === "false,true,false,true"
        await until(gone, "what was cached of the configuration to be absent")
        await cacheConfigs(channel)
        await channel.stub(ControlService).deleteConfig({ key: "prompt" })
        await until(gone, "what was cached of the deleted configuration to be absent")
      } finally {
        channel.close()
        await daemon.stop()
      }
    })
  }
})

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
const SPAN_ID = "b7ad6b7169203331"

/** Takes what the daemon's exporter sends. */
async function collector() {
  const bodies: Buffer[] = []
  const server = createServer((request, response) => {
    request.on("data", (chunk: Buffer) => bodies.push(chunk))
    request.on("end", () => response.end())
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { endpoint, all: () => Buffer.concat(bodies), close: () => server.close() }
}

it("a change and what it owes are one trace", { skip: redisSkip, timeout: 300_000 }, async () => {
  const { endpoint, all, close } = await collector()
  const env = { ...(await redis()), KEELPLANE_TELEMETRY__OTLP_ENDPOINT: endpoint }
  const daemon = await startDaemon({ env: { ...env, KEELPLANE_TELEMETRY__TRACE_SAMPLE_RATIO: "0" } })
  const channel = daemon.channel({ traceparent: `00-${TRACE_ID}-${SPAN_ID}-01` })
  try {
    await put(channel, "prompt", "new")
    await until(async () => {
      const { topics } = await channel.stub(AdminService).listOutbox({})
      return topics.every(({ pendingCount }) => pendingCount === 0n)
    }, "the delivery")
  } finally {
    channel.close()
    assert.equal(await daemon.end("SIGTERM"), 0)
    await daemon.stop()
    close()
  }
  const sent = all()
  for (const name of [
    "keelplane.v1.ControlService/PutConfig",
    "outbox cache-invalidate",
    "cache entries.invalidateTags",
  ])
    assert.ok(sent.includes(name), name)
  // Nothing else is sampled, so these three and those of the outbox's polls are all of this trace or none at all.
  assert.ok(!sent.includes("control outbox.claim"))
})
