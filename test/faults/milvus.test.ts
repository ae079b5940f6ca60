/**
 * The fault matrix on Milvus: it has the vectors. Searches of mirrored collections are answered from the records while it is away, writes to
 * them go on, and only collections that live in it alone notice. The server, which all test files share, takes what happens to the network and
 * to logins; a Milvus Lite of its own is stopped and killed.
 */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { MilvusClient } from "@zilliz/milvus2-sdk-node"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { checkStatus } from "../../src/stores/milvus/connection.ts"
import { milvusLite, milvusStandalone } from "../engines/milvus.ts"
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
/** A field's name that is in requests which write, and in no others of this load. */
const WRITES = "metadata_bytes"
/** More answers than a cell can ask for. */
const ALL = 1_000_000

after(() => print(keepRows("Milvus")))

describe("faults of Milvus", { skip: milvusStandalone.skip, timeout: 900_000 }, () => {
  const passwordFile = join(mkdtempSync(join(tmpdir(), "keelplane-faults-")), "password")
  const username = `u${randomUUID().slice(0, 8)}`
  const database = `d${randomUUID().slice(0, 8)}`
  let admin: MilvusClient
  let proxy: TcpProxy
  let stage: Stage

  before(async () => {
    const { host, port, username: root, password } = new URL(await milvusStandalone.url())
    admin = new MilvusClient({ address: host, username: root, password, logLevel: "none" })
    checkStatus(await admin.createDatabase({ db_name: database }))
    checkStatus(await admin.createUser({ username, password: "the-first" }))
    checkStatus(await admin.addUserToRole({ username, roleName: "admin" }))
    writeFileSync(passwordFile, "the-first\n")
    proxy = await TcpProxy.to(Number(port))
    stage = await staged({
      KEELPLANE_STORES__VECTORS__URL: `milvus://${username}@127.0.0.1:${proxy.port}/${database}`,
      KEELPLANE_STORES__VECTORS__PASSWORD_FILE: passwordFile,
    })
  })
  after(async () => {
    await stage?.close()
    await proxy?.close()
    await admin?.deleteUser({ username })
    await admin?.closeConnection()
    rmSync(passwordFile, { force: true })
  })

  it("the network", async (t) => {
    for (const each of networkPlays(proxy, WRITES, true))
      await t.test(each.fault, () => stage.cell(lossy(each, proxy)))
  })

  it("credential", async (t) => {
    if (new URL(await milvusStandalone.url()).username === "")
      return t.skip("the server that was given has no logins")
    await stage.cell({
      fault: "credential",
      must: ["STORE_AUTH"],
      may: CUT_OFF,
      inflict: async () => {
        const change = { username, oldPassword: "the-first", newPassword: "the-second" }
        checkStatus(await admin.updatePassword(change))
        proxy.cut()
      },
      repair: () => writeFileSync(passwordFile, "the-second\n"),
    })
  })
})

describe("faults of Milvus Lite", { skip: milvusLite.skip, timeout: 900_000 }, () => {
  let server: MilvusProcess
  let stage: Stage

  before(async () => {
    server = await MilvusProcess.start(pathOf(await milvusLiteTool()))
    stage = await staged({ KEELPLANE_STORES__VECTORS__URL: `milvus://127.0.0.1:${server.port}` })
  })
  after(async () => {
    await stage?.close()
    await server?.remove()
  })

  it("hang", () =>
    stage.cell({
      fault: "hang",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => signalAll([server.pid], "SIGSTOP"),
      repair: () => signalAll([server.pid], "SIGCONT"),
    }))

  it("crash", () =>
    stage.cell({
      fault: "crash",
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      inflict: () => server.kill(),
      repair: () => server.start(),
    }))
})

/** The answers of all writes are lost: the copies' writes, which go over the same connection, are among them. */
function lossy(play: Play, proxy: TcpProxy): Play {
  if (play.fault === "reset") return { ...play, inflict: () => proxy.lose(WRITES, "reset", ALL) }
  if (play.fault === "lost reply") return { ...play, inflict: () => proxy.lose(WRITES, "silence", ALL) }
  return play
}

/** A daemon under load. */
interface Stage {
  cell(play: Play): Promise<void>
  close(): Promise<void>
}

async function staged(env: Readonly<Record<string, string>>): Promise<Stage> {
  const daemon: Daemon = await startDaemon({ readyTimeoutMs: 120_000, env })
  const channel = daemon.channel()
  const memory = channel.stub(MemoryService)
  for (const [id, storageMode] of [
    [callers.COLLECTION, StorageMode.MIRRORED],
    [DIRECT, StorageMode.DIRECT],
  ] as const) {
    await memory.createCollection({ collection: { id, dimension: 3, storageMode } })
    // The first use makes the server's collection, which takes longer than a call of the load may.
    const records = [{ id: "first", vector: callers.vector() }]
    await memory.upsertRecords({ collectionId: id, records }, { timeoutMs: 120_000 })
  }
  const subject = subjectOn(channel)
  return {
    cell: async (play) => {
      const { degraded } = await playCell(subject, play)
      if (play.fault === "crash" || play.fault === "refused") {
        assert.ok(degraded > 0, "no search of a mirrored collection said that it was degraded")
      }
    },
    close: async () => {
      channel.close()
      await daemon.stop()
    },
  }
}

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
