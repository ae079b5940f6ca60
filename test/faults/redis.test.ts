/** The fault matrix on Redis: it has the cache, whose reads are misses while it is away, and everything else must not notice. */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { ownServerSkip } from "../engines/redis.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"
import * as callers from "./callers.ts"
import { keepRows, playCell, type Subject } from "./matrix.ts"
import { AWAY, CUT_OFF, LATE, networkPlays, signalAll } from "./network.ts"
import { RedisProcess } from "./redis-process.ts"
import { print } from "./table.ts"

/** Of the servers' administrator, who is not the daemon. */
const ADMIN = "administrator-of-tests"
const LISTS = ["list0", "list1"]

const folder = mkdtempSync(join(tmpdir(), "keelplane-faults-"))
const passwordFile = join(folder, "password")

describe("faults of Redis", { skip: ownServerSkip, timeout: 600_000 }, () => {
  let server: RedisProcess
  let replica: RedisProcess | undefined
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel
  let subject: Subject

  before(async () => {
    server = await RedisProcess.start(ADMIN)
    await login(server, "first")
    writeFileSync(passwordFile, "first\n")
    proxy = await TcpProxy.to(server.port)
    daemon = await startDaemon({
      env: {
        KEELPLANE_STORES__CACHE__URL: `redis://daemon@127.0.0.1:${proxy.port}`,
        KEELPLANE_STORES__CACHE__PASSWORD_FILE: passwordFile,
      },
    })
    channel = daemon.channel()
    const collection = { id: callers.COLLECTION, dimension: 3 }
    await channel.stub(MemoryService).createCollection({ collection })
    subject = subjectOn(channel)
  })
  after(async () => {
    print(keepRows("Redis"))
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await server?.remove()
    await replica?.remove()
    rmSync(folder, { recursive: true, force: true })
  })

  it("crash", async () => {
    const { degraded } = await playCell(subject, {
      fault: "crash",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      // The server comes back without the login, which is made a moment later.
      may: [...CUT_OFF, "STORE_AUTH"],
      inflict: () => server.kill(),
      repair: async () => {
        await server.start()
        await login(server, "first")
      },
    })
    assert.ok(degraded > 0, "no read said that it was degraded")
  })

  it("hang", async () => {
    await playCell(subject, {
      fault: "hang",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => signalAll([server.pid], "SIGSTOP"),
      repair: () => signalAll([server.pid], "SIGCONT"),
    })
  })

  it("the network", async (t) => {
    for (const each of networkPlays(proxy, { writer: "key0" })) {
      await t.test(each.fault, async () => {
        await playCell(subject, each)
      })
    }
  })

  it("read-only", async () => {
    await playCell(subject, {
      fault: "read-only",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: AWAY,
      inflict: async () => {
        await server.command("config", "set", "min-replicas-to-write", "1")
      },
      repair: async () => {
        await server.command("config", "set", "min-replicas-to-write", "0")
      },
    })
  })

  it("full", async () => {
    await playCell(subject, {
      fault: "full",
      settled: ["STORE_FULL"],
      must: ["STORE_FULL"],
      may: AWAY,
      inflict: async () => {
        await server.command("config", "set", "maxmemory", "1")
      },
      repair: async () => {
        await server.command("config", "set", "maxmemory", "0")
      },
    })
  })

  it("credential", async () => {
    await playCell(subject, {
      fault: "credential",
      settled: ["STORE_AUTH", "STORE_UNAVAILABLE"],
      must: ["STORE_AUTH"],
      may: CUT_OFF,
      inflict: async () => {
        await server.command("acl", "setuser", "daemon", "resetpass", ">second")
        proxy.cut()
      },
      repair: () => writeFileSync(passwordFile, "second\n"),
    })
  })

  it("failover", async () => {
    const next = await RedisProcess.start(ADMIN)
    replica = next
    await login(next, "second")
    await next.command("replicaof", "127.0.0.1", String(server.port))
    await until("the replica follows", async () =>
      String(await next.command("info", "replication")).includes("master_link_status:up"),
    )
    await playCell(subject, {
      fault: "failover",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      mayLose: "replication is asynchronous",
      inflict: async () => {
        await server.kill()
        proxy.cut()
      },
      repair: async () => {
        await next.command("replicaof", "no", "one")
        proxy.switchTo(next.port)
      },
    })
  })
})

async function login(server: RedisProcess, password: string): Promise<void> {
  await server.command("acl", "setuser", "daemon", "reset", "on", `>${password}`, "~*", "&*", "+@all")
}

function subjectOn(channel: Channel): Subject {
  return {
    engine: "Redis",
    callers: [
      ...callers.several(2, (name) => callers.cacheWriter(channel, name), "key"),
      ...LISTS.map((name) => callers.listWriter(channel, name)),
      ...callers.several(2, (name) => callers.cacheReader(channel, name), "reader"),
    ],
    others: [
      callers.appender(channel, "appender", "other", { stream: "others", requestId: false }),
      callers.recordWriter(channel, "records", "other"),
    ],
    present: (ids) => callers.presentInCache(channel, LISTS, ids),
  }
}
