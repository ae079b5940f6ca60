/**
 * `npm run soak`: a bit of everything on PostgreSQL and Redis, for twenty minutes (`KEELPLANE_SOAK_MINUTES`), while servers are killed and
 * frozen and the network fails. In between everybody rests: then nothing may be left in flight, and from rest to rest neither memory
 * nor connections nor timers may grow.
 */
import assert from "node:assert/strict"
import { test } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { ownServerSkip as sqlSkip, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { freePort, ownServerSkip as redisSkip, startRedis } from "../engines/redis.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"
import { TcpProxy } from "../support/proxy.ts"
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
/** Over the whole run, by the line through the readings. */
const MOST_HEAP_MIB = 32
const MOST_RESOURCES = 20

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The daemon's stores, on the other side of a bad network. */
interface Stores {
  readonly sql: PostgresServer
  readonly redis: { pid: number }
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
  const proxies = [await TcpProxy.to(sql.port), await TcpProxy.to(port)]
  const url = sql.url.replace(`:${sql.port}`, `:${proxies[0]?.port}`)
  const daemon = await startDaemon({
    env: {
      KEELPLANE_STORES__MEMORY__URL: url,
      KEELPLANE_STORES__EVENTS__URL: url,
      KEELPLANE_STORES__CONTROL__URL: url,
      KEELPLANE_STORES__CACHE__URL: server.url.replace(`:${port}`, `:${proxies[1]?.port}`),
    },
    readyTimeoutMs: 180_000,
  })
  const close = async () => {
    await daemon.stop()
    for (const proxy of proxies) await proxy.close()
  }
  return { daemon, stores: { sql, redis, proxies, restartRedis }, close }
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

/** Waits until nothing is under way; the reading of least memory, which is the one after a collection. */
async function rest(daemon: Daemon): Promise<Vitals> {
  let last: Vitals | undefined
  const idle = async () => {
    last = await vitals(daemon)
    return Object.values(last.busy).every((count) => count === 0)
  }
  await until(idle, "nothing to be in flight", REST_MS).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last?.busy)}`)
  })
  const readings: Vitals[] = []
  for (let n = 0; n < READINGS; n++) {
    readings.push(await vitals(daemon))
    await pause(100)
  }
  return readings.reduce((least, each) => (each.heapMiB < least.heapMiB ? each : least))
}

const total = ({ active }: Vitals) => Object.values(active).reduce((sum, each) => sum + each, 0)
const minutes = (ms: number) => (ms / 60_000).toFixed(1)

test(`${MINUTES} minutes of bad days`, {
  skip: sqlSkip || redisSkip,
  timeout: MINUTES * 180_000 + 600_000,
}, async (t) => {
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
    t.diagnostic(`faults: ${JSON.stringify(Object.fromEntries(seen))}`)
    t.diagnostic(
      `${tally.answered} answered, ${tally.brokenOff} broken off, failures ${JSON.stringify(Object.fromEntries(tally.failures))}`,
    )
    const warm = rests.slice(WARM_UP_RESTS)
    const heap = slope(warm.map(({ heapMiB }) => heapMiB)) * (warm.length - 1)
    const resources = slope(warm.map(total)) * (warm.length - 1)
    t.diagnostic(`over ${warm.length} rests: heap ${heap.toFixed(1)} MiB, active ${resources.toFixed(1)}`)
    assert.deepEqual([...new Set(tally.bugs)], [])
    assert.ok(heap < MOST_HEAP_MIB, `the heap grew by ${heap} MiB`)
    assert.ok(resources < MOST_RESOURCES, `sockets and timers grew by ${resources}`)
  } finally {
    await close()
  }
})
