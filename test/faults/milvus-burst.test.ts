/** A burst of writes to a mirrored collection while Milvus is slow: searches may be degraded meanwhile, and must not stay so. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { milvusLite } from "../engines/milvus.ts"
import { milvusLiteTool } from "../engines/milvus-install.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { pathOf } from "../support/tools.ts"
import { until } from "../support/until.ts"
import * as callers from "./callers.ts"
import { MilvusProcess } from "./milvus-process.ts"

const WRITERS = 8
const WRITES = 100
const SEARCHERS = 24
/** So that half of a search's time, which is Milvus' part, is less than a request and its answer take. */
const SLOW_MS = 600
const SEARCH_MS = 2_000
/** Searches in a row that Milvus has to answer. */
const HEALTHY = 20
/** From the end of the slowness; a breaker may have to find out first. */
const HEALED_MS = 30_000

describe("a burst while Milvus is slow", { skip: milvusLite.skip, timeout: 400_000 }, () => {
  let server: MilvusProcess
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel

  before(async () => {
    server = await MilvusProcess.start(pathOf(await milvusLiteTool()))
    proxy = await TcpProxy.to(server.port)
    daemon = await startDaemon({
      readyTimeoutMs: 120_000,
      env: { KEELPLANE_STORES__VECTORS__URL: `milvus://127.0.0.1:${proxy.port}` },
    })
    channel = daemon.channel()
  })
  after(async () => {
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await server?.remove()
  })

  it("leaves no search degraded once Milvus is itself again", async (t) => {
    const memory = channel.stub(MemoryService)
    const collectionId = callers.COLLECTION
    await memory.createCollection({
      collection: { id: collectionId, dimension: 3, storageMode: StorageMode.MIRRORED },
    })
    const search = async () => {
      const query = { target: { case: "vector" as const, value: callers.vector() } }
      const { result } = await memory.search({ collectionId, query }, { timeoutMs: SEARCH_MS })
      return result?.degraded === true
    }
    await memory.upsertRecords({ collectionId, records: [{ id: "first", vector: callers.vector() }] })
    await until("the mirror is made", async () => !(await search()), 120_000)
    proxy.delay(SLOW_MS)
    let writing = true
    let degraded = 0
    const searching = Array.from({ length: SEARCHERS }, async () => {
      while (writing) if (await search().catch(() => true)) degraded++
    })
    const writers = Array.from({ length: WRITERS }, async (_, writer) => {
      for (let i = 0; i < WRITES; i++) {
        const record = { id: `${writer}-${i}`, vector: callers.vector(i) }
        await memory.upsertRecords({ collectionId, records: [record] })
      }
    })
    await Promise.all(writers)
    await until("searches noticed", () => degraded >= 3 * SEARCHERS, 60_000)
    writing = false
    proxy.delay(0)
    const ended = performance.now()
    await Promise.all(searching)
    for (let row = 0; row < HEALTHY; ) {
      row = (await search().catch(() => true)) ? 0 : row + 1
      const ms = performance.now() - ended
      assert.ok(ms < HEALED_MS, `searches are degraded ${Math.round(ms)} ms after the end of the slowness`)
    }
    t.diagnostic(`${degraded} degraded; healed after ${Math.round(performance.now() - ended)} ms`)
    await until("all is copied", async () => (await backlog(channel)) === 0n, 60_000)
  })
})

/** Copies that are owed. */
async function backlog(channel: Channel): Promise<bigint> {
  const { topics } = await channel.stub(AdminService).listOutbox({ topic: "memory-mirror" })
  return topics.reduce((sum, { pendingCount }) => sum + pendingCount, 0n)
}
