/** The fault matrix on Cassandra: it has events, sessions and audit, and everything else must not notice. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import cassandra from "cassandra-driver"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { ringPorts, ringSkip } from "../engines/cassandra.ts"
import { cassandraJars, java } from "../engines/cassandra-install.ts"
import { type NodePlan, type RunningNode, startNode } from "../engines/cassandra-node.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import type { Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { pathOf } from "../support/tools.ts"
import { until } from "../support/until.ts"
import * as callers from "./callers.ts"
import { keepRows, playCell, type Subject } from "./matrix.ts"
import { CUT_OFF, LATE, networkPlays, signalAll } from "./network.ts"
import { print } from "./table.ts"

const KEYSPACE = "keelplane_faults"
const HEAP_MB = 512
const STREAMS = ["stream0", "stream1"]

const folder = mkdtempSync(join(tmpdir(), "keelplane-faults-"))
const passwordFile = join(folder, "password")

describe("faults of Cassandra", { skip: ringSkip, timeout: 900_000 }, () => {
  let plan: NodePlan
  let node: RunningNode
  let proxy: TcpProxy
  let daemon: Daemon
  let channel: Channel
  let subject: Subject

  before(async () => {
    plan = await nodePlan()
    node = await startNode(plan)
    await loginsReady(plan)
    await administer(plan, "create role daemon with password = 'first' and login = true and superuser = true")
    writeFileSync(passwordFile, "first\n")
    proxy = await TcpProxy.to(plan.cqlPort)
    daemon = await startDaemon({
      readyTimeoutMs: 180_000,
      env: {
        KEELPLANE_STORES__EVENTS__URL: `cassandra://daemon@127.0.0.1:${proxy.port}/${KEYSPACE}?replication=1`,
        KEELPLANE_STORES__EVENTS__PASSWORD_FILE: passwordFile,
      },
    })
    channel = daemon.channel()
    const collection = { id: callers.COLLECTION, dimension: 3 }
    await channel.stub(MemoryService).createCollection({ collection })
    for (const stream of STREAMS) {
      await channel.stub(EventService).appendEvents({ stream, events: [{ type: "first" }] })
    }
    subject = subjectOn(channel)
  })
  after(async () => {
    print(keepRows("Cassandra"))
    channel?.close()
    await daemon?.stop()
    await proxy?.close()
    await node?.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  it("the network", async (t) => {
    for (const each of networkPlays(proxy, { writer: "stream0" })) {
      await t.test(each.fault, async () => {
        await playCell(subject, each)
      })
    }
  })

  it("hang", async () => {
    await playCell(subject, {
      fault: "hang",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => signalAll([node.pid], "SIGSTOP"),
      repair: () => signalAll([node.pid], "SIGCONT"),
    })
  })

  it("partial loss", async () => {
    await playCell(subject, {
      fault: "partial loss",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      // A quorum of three copies cannot be had of one node.
      inflict: () => replicate(plan, 3),
      repair: () => replicate(plan, 1),
    })
  })

  it("credential", async () => {
    await playCell(subject, {
      fault: "credential",
      settled: ["STORE_AUTH", "STORE_UNAVAILABLE"],
      must: ["STORE_AUTH"],
      may: CUT_OFF,
      inflict: async () => {
        await administer(plan, "alter role daemon with password = 'second'")
        proxy.cut()
      },
      repair: () => writeFileSync(passwordFile, "second\n"),
    })
  })

  it("crash", async () => {
    await playCell(subject, {
      fault: "crash",
      settled: ["STORE_UNAVAILABLE"],
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      inflict: () => signalAll([node.pid], "SIGKILL"),
      repair: async () => {
        // Its end removes its files, so they are elsewhere meanwhile.
        const kept = `${plan.folder}.kept`
        renameSync(plan.folder, kept)
        await node.stop()
        renameSync(kept, plan.folder)
        node = await startNode(plan)
      },
    })
  })
})

async function nodePlan(): Promise<NodePlan> {
  const [cqlPort, storagePort] = await ringPorts()
  return {
    java: pathOf(await java()),
    jars: pathOf(await cassandraJars()),
    folder: join(folder, "node"),
    ip: "127.0.0.1",
    cqlPort,
    storagePort,
    seed: "127.0.0.1",
    place: [0, 1],
    heapMb: HEAP_MB,
    logins: true,
    // Killed alone, without replicas that know what it had not written yet.
    durable: true,
  }
}

async function administer({ cqlPort }: NodePlan, ...statements: readonly string[]): Promise<void> {
  const client = new cassandra.Client({
    contactPoints: [`127.0.0.1:${cqlPort}`],
    localDataCenter: "datacenter1",
    credentials: { username: "cassandra", password: "cassandra" },
    socketOptions: { readTimeout: 60_000 },
  })
  try {
    await client.connect()
    for (const statement of statements) await client.execute(statement)
  } finally {
    await client.shutdown()
  }
}

/** The first login is made some time after the node takes connections. */
async function loginsReady(plan: NodePlan): Promise<void> {
  await until(
    "the administrator can log in",
    () =>
      administer(plan).then(
        () => true,
        () => false,
      ),
    120_000,
  )
}

const replicate = (plan: NodePlan, copies: number) =>
  administer(
    plan,
    `alter keyspace ${KEYSPACE} with replication = { 'class': 'NetworkTopologyStrategy', 'datacenter1': ${copies} }`,
  )

function subjectOn(channel: Channel): Subject {
  return {
    engine: "Cassandra",
    callers: [
      ...STREAMS.map((stream) =>
        callers.appender(channel, stream, "write", { stream, requestId: stream === "stream1" }),
      ),
      callers.streamReader(channel, "reader", "read", "stream0"),
    ],
    others: [
      callers.recordWriter(channel, "records", "other"),
      callers.cacheWriter(channel, "cache", "other"),
    ],
    present: (ids) => callers.presentEvents(channel, STREAMS, ids),
  }
}
