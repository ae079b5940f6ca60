/** The fault matrix on PostgreSQL: it has memory and control, and everything else must not notice. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { administer, ask, ownServerSkip, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"
import * as callers from "./callers.ts"
import { SmallDisk } from "./full-disk.ts"
import { keepRows, playCell, type Subject } from "./matrix.ts"
import { AWAY, CUT_OFF, LATE, networkPlays, signalAll } from "./network.ts"
import { promote, startStandby } from "./standby.ts"
import { print } from "./table.ts"

const DISK_MB = 320
const LOGIN = "daemon"
const HBA = ["local all all trust", "local replication all trust", "host all all 127.0.0.1/32 scram-sha-256"]

const folder = mkdtempSync(join(tmpdir(), "keelplane-faults-"))
const passwordFile = join(folder, "password")

describe("faults of PostgreSQL", { skip: ownServerSkip, timeout: 600_000 }, () => {
  let disk: SmallDisk | string
  let server: PostgresServer
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel
  let subject: Subject

  before(async () => {
    disk = SmallDisk.mount(DISK_MB)
    server = await onDisk(disk)
    await administer(server.socketUrl, `create role ${LOGIN} superuser login password 'first'`)
    writeFileSync(passwordFile, "first\n")
    proxy = await TcpProxy.to(server.port)
    const url = `postgres://${LOGIN}@127.0.0.1:${proxy.port}/postgres`
    daemon = await startDaemon({
      env: {
        KEELPLANE_STORES__MEMORY__URL: url,
        KEELPLANE_STORES__MEMORY__PASSWORD_FILE: passwordFile,
        KEELPLANE_STORES__CONTROL__URL: url,
        KEELPLANE_STORES__CONTROL__PASSWORD_FILE: passwordFile,
      },
    })
    channel = daemon.channel()
    await channel
      .stub(MemoryService)
      .createCollection({ collection: { id: callers.COLLECTION, dimension: 3 } })
    subject = subjectOn(channel)
  })
  after(async () => {
    print(keepRows("PostgreSQL"))
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await server?.remove()
    if (disk instanceof SmallDisk) disk.unmount()
    rmSync(folder, { recursive: true, force: true })
  })

  it("crash", async () => {
    await playCell(subject, {
      fault: "crash",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      inflict: () => server.stop("immediate"),
      repair: () => server.start(),
    })
  })

  it("hang", async () => {
    const pids: number[] = []
    await playCell(subject, {
      fault: "hang",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => {
        pids.push(server.pid, ...server.backends())
        signalAll(pids, "SIGSTOP")
      },
      repair: () => signalAll(pids, "SIGCONT"),
    })
  })

  it("the network", async (t) => {
    for (const each of networkPlays(proxy, "kp_commit"))
      await t.test(each.fault, async () => {
        await playCell(subject, each)
      })
  })

  it("read-only", async () => {
    await playCell(subject, {
      fault: "read-only",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: AWAY,
      inflict: () =>
        administer(
          server.socketUrl,
          "alter system set default_transaction_read_only = on",
          "select pg_reload_conf()",
        ),
      repair: () =>
        administer(
          server.socketUrl,
          "set default_transaction_read_only = off",
          "alter system reset default_transaction_read_only",
          "select pg_reload_conf()",
        ),
    })
  })

  it("full", async (t) => {
    if (typeof disk === "string") return t.skip(disk)
    const small = disk
    await playCell(subject, {
      fault: "full",
      settled: ["STORE_FULL"],
      must: ["STORE_FULL"],
      may: CUT_OFF,
      inflict: () => small.fill(),
      repair: () => small.empty(),
    })
  })

  it("credential", async () => {
    await playCell(subject, {
      fault: "credential",
      settled: ["STORE_AUTH", "STORE_UNAVAILABLE"],
      must: ["STORE_AUTH"],
      may: CUT_OFF,
      inflict: async () => {
        await administer(server.socketUrl, `alter role ${LOGIN} password 'second'`)
        proxy.cut()
      },
      repair: () => writeFileSync(passwordFile, "second\n"),
    })
  })

  it("schema", async () => {
    await playCell(subject, {
      fault: "schema",
      settled: ["SCHEMA_MISMATCH"],
      must: ["SCHEMA_MISMATCH"],
      may: AWAY,
      inflict: () => administer(server.socketUrl, "alter schema keelplane rename to keelplane_away"),
      repair: () => administer(server.socketUrl, "alter schema keelplane_away rename to keelplane"),
    })
  })

  it("failover", async () => {
    const standby = await startStandby(server, HBA)
    await playCell(subject, {
      fault: "failover",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      inflict: async () => {
        await server.stop("immediate")
        proxy.cut()
      },
      repair: async () => {
        await promote(standby)
        proxy.switchTo(standby.port)
        server = standby
      },
    })
  })

  it("leaves nothing open behind", async () => {
    await until("no transaction is left", async () => {
      const open = await ask(
        server.socketUrl,
        `select pid from pg_stat_activity where usename = '${LOGIN}' and state <> 'idle'`,
      )
      return open.length === 0
    })
  })
})

async function onDisk(disk: SmallDisk | string): Promise<PostgresServer> {
  const usual = process.env.TMPDIR
  // Servers keep their files where temporary ones go.
  if (disk instanceof SmallDisk) process.env.TMPDIR = disk.folder
  try {
    return await startPostgres({
      // What is acknowledged must survive the server's processes; the machine does not crash here.
      settings: { synchronous_commit: "on", max_wal_size: "64MB", min_wal_size: "32MB" },
      hba: HBA,
    })
  } finally {
    if (usual === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = usual
  }
}

function subjectOn(channel: Channel): Subject {
  return {
    engine: "PostgreSQL",
    callers: [
      ...callers.several(2, (name) => callers.recordWriter(channel, name), "record"),
      ...callers.several(2, (name) => callers.jobWriter(channel, name), "job"),
      ...callers.several(2, (name) => callers.recordReader(channel, name), "reader"),
    ],
    others: [
      callers.appender(channel, "appender", "other", { stream: "others", requestId: false }),
      callers.cacheWriter(channel, "cache", "other"),
    ],
    present: async (ids) =>
      new Map([
        ...(await callers.presentRecords(channel, ids)),
        ...(await callers.presentJobs(channel, ids)),
      ]),
  }
}
