/**
 * `npm run soak`: a bit of everything on PostgreSQL, Cassandra and Redis, for twenty minutes (`KEELPLANE_SOAK_MINUTES`), while servers are
 * killed and frozen and the network fails. In between everybody rests: then nothing may be left in flight, and from rest to rest
 * neither memory nor connections nor timers may grow. `KEELPLANE_SOAK_CASSANDRA=0` leaves events to PostgreSQL; so does a machine
 * that has no Cassandra. With KEELPLANE_FAULTS_REPORT what was measured is kept there, for the page about reliability.
 */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { ringPorts, ringSkip } from "../engines/cassandra.ts"
import { cassandraJars, java } from "../engines/cassandra-install.ts"
import { type RunningNode, startNode } from "../engines/cassandra-node.ts"
import { ownServerSkip as sqlSkip, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { freePort, ownServerSkip as redisSkip, startRedis } from "../engines/redis.ts"
import { type Growth, keepReport, type SoakReport, soakLines } from "../faults/report.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"
import { TcpProxy } from "../support/proxy.ts"
import { pathOf } from "../support/tools.ts"
import { client, Tally } from "./load.ts"
import { slope, type Vitals, vitals } from "./vitals.ts"

const MINUTES = Number(process.env.KEELPLANE_SOAK_MINUTES ?? 20)
/** One storm and the rest after it. */
const STORM_MS = 20_000
const FAULT_MS = 1_500
const CLIENTS = 12
/** The first rests are left out: caches fill, code is compiled. */
const WARM_UP_RESTS = 3
const REST_MS = 120_000
const READINGS = 20
/** Readings that may fail at one rest. */
const MOST_MISSED = 20
const CASSANDRA_HEAP_MB = 512
/** Over the whole run, by the line through the readings. */
const MOST_HEAP_MIB = 32
const MOST_RESOURCES = 20

/** Why events are left to PostgreSQL; false where Cassandra has them. */
const withoutCassandra =
  process.env.KEELPLANE_SOAK_CASSANDRA === "0" ? "KEELPLANE_SOAK_CASSANDRA=0" : ringSkip

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The daemon's stores, on the other side of a bad network. */
interface Stores {
  readonly sql: PostgresServer
  readonly redis: { pid: number }
  readonly cassandra: RunningNode | undefined
  readonly proxies: readonly TcpProxy[]
  restartRedis(): Promise<void>
}

/** What can go wrong; each is over when it resolves. */
const FAULTS: Readonly<Record<string, (stores: Stores, proxy: TcpProxy) => Promise<void>>> = {
  "connections cut": async (_, proxy) => proxy.cut(),
  "network held": async (_, proxy) => {
    proxy.hold()
    await pause(FAULT_MS)
    proxy.release()
  },
  "network slow": async (_, proxy) => {
    proxy.delay(50)
    await pause(FAULT_MS)
    proxy.delay(0)
  },
  "answers lost": async (_, proxy) => {
    proxy.lose("n-1", "reset", 5)
    await pause(FAULT_MS)
    proxy.loseNone()
  },
  "server refuses": async (_, proxy) => {
    await proxy.refuse()
    await pause(FAULT_MS)
    await proxy.accept()
  },
  "PostgreSQL frozen": async ({ sql }) => {
    const frozen = sql.backends()
    for (const pid of frozen) signal(pid, "SIGSTOP")
    await pause(FAULT_MS)
    for (const pid of frozen) signal(pid, "SIGCONT")
  },
  "PostgreSQL killed": async ({ sql }) => {
    await sql.stop("immediate")
    await pause(FAULT_MS)
    await sql.start()
  },
  "Redis frozen": async ({ redis }) => {
    signal(redis.pid, "SIGSTOP")
    await pause(FAULT_MS)
    signal(redis.pid, "SIGCONT")
  },
  "Redis killed": ({ restartRedis }) => restartRedis(),
  "Cassandra frozen": async ({ cassandra }) => {
    if (cassandra === undefined) return
    signal(cassandra.pid, "SIGSTOP")
    await pause(FAULT_MS)
    signal(cassandra.pid, "SIGCONT")
  },
}

/** A process that is gone by itself needs no signal. */
function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

async function open(): Promise<{ daemon: Daemon; stores: Stores; close(): Promise<void> }> {
  const sql = await startPostgres()
  const port = await freePort()
  let server = await startRedis([], port)
  const redis = { pid: server.pid }
  const restartRedis = async () => {
    await server.stop()
    server = await startRedis([], port)
    redis.pid = server.pid
  }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-soak-"))
  const cassandra = withoutCassandra === false ? await startCassandra(join(folder, "node")) : undefined
  const targets = [sql.port, port, ...(cassandra === undefined ? [] : [cassandra.cqlPort])]
  const proxies = await Promise.all(targets.map((target) => TcpProxy.to(target)))
  const [toSql, toRedis, toCassandra] = proxies.map((proxy) => proxy.port)
  const url = sql.url.replace(`:${sql.port}`, `:${toSql}`)
  const daemon = await startDaemon({
    env: {
      KEELPLANE_STORES__MEMORY__URL: url,
      KEELPLANE_STORES__EVENTS__URL:
        toCassandra === undefined ? url : `cassandra://127.0.0.1:${toCassandra}/soak?replication=1`,
      KEELPLANE_STORES__CONTROL__URL: url,
      KEELPLANE_STORES__CACHE__URL: server.url.replace(`:${port}`, `:${toRedis}`),
    },
    readyTimeoutMs: 180_000,
  })
  const close = async () => {
    await daemon.stop()
    for (const proxy of proxies) await proxy.close()
    await cassandra?.stop()
    rmSync(folder, { recursive: true, force: true })
  }
  return { daemon, stores: { sql, redis, cassandra, proxies, restartRedis }, close }
}

async function startCassandra(folder: string): Promise<RunningNode> {
  const [cqlPort = 0, storagePort = 0] = await ringPorts()
  return startNode({
    java: pathOf(await java()),
    jars: pathOf(await cassandraJars()),
    folder,
    ip: "127.0.0.1",
    cqlPort,
    storagePort,
    seed: "127.0.0.1",
    place: [0, 1],
    heapMb: CASSANDRA_HEAP_MB,
  })
}

async function storm(daemon: Daemon, stores: Stores, tally: Tally, seen: Map<string, number>): Promise<void> {
  const end = performance.now() + STORM_MS
  const isOver = () => performance.now() > end
  // New connections each time, as agents come and go.
  const channels = Array.from({ length: CLIENTS }, () => daemon.channel())
  const clients = channels.map((channel) => client(channel, tally, isOver))
  const kinds = Object.entries(FAULTS)
  while (!isOver()) {
    await pause(FAULT_MS)
    const [name, fault] = kinds[Math.floor(Math.random() * kinds.length)] ?? []
    const proxy = stores.proxies[Math.floor(Math.random() * stores.proxies.length)]
    if (name === undefined || fault === undefined || proxy === undefined) continue
    seen.set(name, (seen.get(name) ?? 0) + 1)
    await fault(stores, proxy)
  }
  await Promise.all(clients)
  for (const channel of channels) channel.close()
}

const hasEnded = ({ process: { exitCode, signalCode } }: Daemon) => exitCode !== null || signalCode !== null

function lastWords(daemon: Daemon): string {
  const { exitCode, signalCode } = daemon.process
  return `the daemon does not tell how it is (exit ${exitCode}, ${signalCode}): ${daemon.output().slice(-4_000)}`
}

/** Waits until nothing is under way; the reading of least memory, which is the one after a collection. */
async function rest(daemon: Daemon): Promise<Vitals> {
  let last: Vitals | undefined
  let missed = 0
  // On a machine that is behind, a connection may break; a daemon that has ended answers never.
  const read = async () => {
    for (;;) {
      try {
        return await vitals(daemon)
      } catch (error) {
        if (++missed > MOST_MISSED || hasEnded(daemon)) throw new Error(lastWords(daemon), { cause: error })
        await pause(100)
      }
    }
  }
  const idle = async () => {
    last = await read()
    return Object.values(last.busy).every((count) => count === 0)
  }
  await until(idle, "nothing to be in flight", REST_MS).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.busy)}`, { cause: error })
  })
  const readings: Vitals[] = []
  for (let n = 0; n < READINGS; n++) {
    readings.push(await read())
    await pause(100)
  }
  return readings.reduce((least, each) => (each.heapMiB < least.heapMiB ? each : least))
}

function reportOf(
  { answered, brokenOff, failures }: Tally,
  faults: ReadonlyMap<string, number>,
  rests: readonly Vitals[],
  ms: number,
): SoakReport {
  const growth = (of: (reading: Vitals) => number): Growth => {
    const values = rests.map(of)
    return {
      first: values[0] ?? 0,
      last: values.at(-1) ?? 0,
      growth: slope(values) * (values.length - 1),
    }
  }
  return {
    minutes: ms / 60_000,
    stores: withoutCassandra === false ? "PostgreSQL, Cassandra and Redis" : "PostgreSQL and Redis",
    answered,
    brokenOff,
    failures: Object.fromEntries(failures),
    faults: Object.fromEntries(faults),
    rests: rests.length,
    heap: growth(({ heapMiB }) => heapMiB),
    resident: growth(({ residentMiB }) => residentMiB),
    active: growth(total),
  }
}

const total = ({ active }: Vitals) => Object.values(active).reduce((sum, each) => sum + each, 0)
const minutes = (ms: number) => (ms / 60_000).toFixed(1)

test(`${MINUTES} minutes of bad days`, {
  skip: sqlSkip || redisSkip,
  timeout: MINUTES * 180_000 + 600_000,
}, async () => {
  const { daemon, stores, close } = await open()
  const tally = new Tally()
  const seen = new Map<string, number>()
  const rests: Vitals[] = []
  const start = performance.now()
  try {
    const first = daemon.channel()
    await first.stub(MemoryService).createCollection({ collection: { id: "soak", dimension: 3 } })
    first.close()
    while (performance.now() - start < MINUTES * 60_000 || rests.length < WARM_UP_RESTS + 3) {
      await storm(daemon, stores, tally, seen)
      const reading = await rest(daemon)
      rests.push(reading)
      const memory = `heap ${reading.heapMiB.toFixed(1)} MiB, resident ${reading.residentMiB.toFixed(0)} MiB`
      console.log(
        `${minutes(performance.now() - start)} min: ${tally.answered} answered, ${memory}, active ${JSON.stringify(reading.active)}`,
      )
    }
    const report = reportOf(tally, seen, rests.slice(WARM_UP_RESTS), performance.now() - start)
    keepReport("soak", report)
    console.log(soakLines(report).join("\n"))
    assert.deepEqual([...new Set(tally.bugs)], [])
    assert.ok(report.heap.growth < MOST_HEAP_MIB, `the heap grew by ${report.heap.growth} MiB`)
    const { growth } = report.active
    assert.ok(growth < MOST_RESOURCES, `sockets and timers grew by ${growth}`)
  } finally {
    await close()
  }
})
