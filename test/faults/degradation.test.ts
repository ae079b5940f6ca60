/** A daemon whose cache is away when it starts: it serves what it can, says what it cannot, and heals. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { ownServerSkip } from "../engines/redis.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"
import { RedisProcess } from "./redis-process.ts"

const isAway = (error: unknown) => error instanceof CallError && error.reason === "STORE_UNAVAILABLE"

describe("a cache that is away at the start", { skip: ownServerSkip, timeout: 300_000 }, () => {
  const password = "secret-of-this-test"
  let server: RedisProcess
  let proxy: TcpProxy
  const daemons: Daemon[] = []
  const channels: Channel[] = []

  const start = async (onFailure: "miss" | "error") => {
    const daemon = await startDaemon({
      env: {
        KEELPLANE_STORES__CACHE__URL: `redis://:${password}@127.0.0.1:${proxy.port}`,
        KEELPLANE_CACHE__ON_FAILURE: onFailure,
      },
    })
    daemons.push(daemon)
    const channel = daemon.channel()
    channels.push(channel)
    return channel
  }

  before(async () => {
    server = await RedisProcess.start(password)
    proxy = await TcpProxy.to(server.port)
    await proxy.refuse()
  })
  after(async () => {
    for (const channel of channels) channel.close()
    for (const daemon of daemons) await daemon.stop()
    await proxy?.close()
    await server?.remove()
  })

  it("is one without entries for reads, and refuses writes; nothing else notices; then it heals", async () => {
    const channel = await start("miss")
    const cache = channel.stub(CacheService)
    const reads = await Promise.all([
      cache.get({ key: "k" }),
      cache.hashGet({ key: "k" }),
      cache.listRange({ key: "k" }),
      cache.sortedSetRange({ key: "k" }),
    ])
    assert.deepEqual(
      reads.map(({ found, degraded }) => [found, degraded]),
      reads.map(() => [false, true]),
    )
    const batch = await cache.batchGet({ keys: ["a", "b"] })
    assert.equal(batch.degraded, true)
    assert.deepEqual(
      batch.items.map(({ key, found }) => [key, found]),
      [
        ["a", false],
        ["b", false],
      ],
    )
    await assert.rejects(cache.set({ key: "k", value: { case: "text", value: "v" } }), isAway)
    await channel.stub(EventService).appendEvents({ stream: "s", events: [{ type: "e" }] })
    await proxy.accept()
    await until("a write succeeds", () =>
      cache.set({ key: "k", value: { case: "text", value: "v" } }).then(
        () => true,
        (error: unknown) => {
          assert.ok(isAway(error), String(error))
          return false
        },
      ),
    )
    const { found, degraded } = await cache.get({ key: "k" })
    assert.deepEqual([found, degraded], [true, false])
    await proxy.refuse()
  })

  it("fails reads, too, where the configuration says so", async () => {
    const channel = await start("error")
    await assert.rejects(channel.stub(CacheService).get({ key: "k" }), isAway)
  })
})
