/**
 * The fault matrix on Milvus Lite: it has the vectors. Searches of mirrored collections are answered from the records while it is away,
 * writes to them go on, and only collections that live in it alone notice.
 */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { milvusLite } from "../engines/milvus.ts"
import { milvusLiteTool } from "../engines/milvus-install.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { pathOf } from "../support/tools.ts"
import * as callers from "./callers.ts"
import { keepRows, type Play, playCell, type Subject } from "./matrix.ts"
import { MilvusProcess } from "./milvus-process.ts"
import { CUT_OFF, LATE, networkPlays, signalAll } from "./network.ts"
import { print } from "./table.ts"

const DIRECT = "direct"

const skip =
  process.env.KEELPLANE_FAULTS_MILVUS === undefined
    ? "takes minutes: run by scripts/reliability.ts, or with KEELPLANE_FAULTS_MILVUS set"
    : milvusLite.skip

describe("faults of Milvus", { skip, timeout: 900_000 }, () => {
  let server: MilvusProcess
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel
  let subject: Subject

  before(async () => {
    server = await MilvusProcess.start(pathOf(await milvusLiteTool()))
    proxy = await TcpProxy.to(server.port)
    daemon = await startDaemon({
      readyTimeoutMs: 120_000,
      env: { KEELPLANE_STORES__VECTORS__URL: `milvus://127.0.0.1:${proxy.port}` },
    })
    channel = daemon.channel()
    const memory = channel.stub(MemoryService)
    for (const [id, storageMode] of [
      [callers.COLLECTION, StorageMode.MIRRORED],
      [DIRECT, StorageMode.DIRECT],
    ] as const) {
      await memory.createCollection({ collection: { id, dimension: 3, storageMode } })
    }
    subject = subjectOn(channel)
  })
  after(async () => {
    print(keepRows("Milvus"))
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await server?.remove()
  })

  const cell = async (play: Play) => {
    const { degraded } = await playCell(subject, play)
    if (play.fault === "crash" || play.fault === "refused") {
      assert.ok(degraded > 0, "no search of a mirrored collection said that it was degraded")
    }
  }

  it("the network", async (t) => {
    for (const each of networkPlays(proxy, { writer: "direct0" })) {
      // gRPC opens another connection by itself, and the call may have time enough left.
      const play = each.fault === "reset" ? { ...each, must: [], oneOf: LATE } : each
      await t.test(each.fault, () => cell(play))
    }
  })

  it("hang", () =>
    cell({
      fault: "hang",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => signalAll([server.pid], "SIGSTOP"),
      repair: () => signalAll([server.pid], "SIGCONT"),
    }))

  it("crash", () =>
    cell({
      fault: "crash",
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      inflict: () => server.kill(),
      repair: () => server.start(),
    }))
})

function subjectOn(channel: Channel): Subject {
  return {
    engine: "Milvus",
    callers: [
      callers.recordWriter(channel, "direct0", "write", DIRECT),
      callers.searcher(channel, "searcher", "read", DIRECT),
    ],
    others: [
      callers.recordWriter(channel, "mirrored", "other"),
      callers.searcher(channel, "mirror-searcher", "other"),
      callers.appender(channel, "appender", "other", { stream: "others", requestId: false }),
    ],
    present: (ids) => callers.presentRecords(channel, ids, DIRECT),
  }
}
