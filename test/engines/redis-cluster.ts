/** Clusters and sentinels for tests, made of servers of the test's own without any tool beside the server itself. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import { endWithProcess, killed } from "../support/children.ts"
import {
  atEnd,
  freePort,
  type RedisKind,
  type RedisServer,
  redisKinds,
  serverPath,
  startRedis,
} from "./redis.ts"

const SLOTS = 16_384
const READY_MS = 60_000

/** A cluster of masters, and behind them the first one's replica if there is one. */
export interface RedisCluster {
  readonly url: string
  readonly servers: readonly RedisServer[]
  /** A bare client of each server. */
  readonly clients: readonly Redis[]
}

/** Waits until `work` says yes. */
export async function until(what: string, work: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + READY_MS
  while (!(await work().catch(() => false))) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

/** A bare client; closed after the test file's tests. */
export function bareClient(url: string): Redis {
  const client = new Redis(url, { retryStrategy: () => 50 })
  client.on("error", () => undefined)
  atEnd(() => client.disconnect())
  return client
}

/** What a cluster is to be like. */
export interface ClusterShape {
  readonly masters?: number
  /** Whether the first master has a replica. */
  readonly replica?: boolean
  /** The first master's port. */
  readonly port?: number
  /** The server's program. */
  readonly program?: string
}

/** Starts masters that share the slots evenly. */
export async function startCluster({
  masters = 3,
  replica = false,
  port,
  program,
}: ClusterShape = {}): Promise<RedisCluster> {
  const busPorts = await Promise.all(Array.from({ length: masters + Number(replica) }, () => freePort()))
  const servers = await Promise.all(
    busPorts.map((busPort, index) =>
      startRedis(
        [
          "--cluster-enabled",
          "yes",
          "--cluster-port",
          String(busPort),
          "--cluster-node-timeout",
          "2000",
          "--cluster-require-full-coverage",
          "no",
        ],
        index === 0 ? port : undefined,
        undefined,
        program,
      ),
    ),
  )
  const clients = servers.map(({ url }) => bareClient(url))
  const share = SLOTS / masters
  for (const [index, client] of clients.slice(0, masters).entries()) {
    const [from, to] = [Math.ceil(index * share), Math.ceil((index + 1) * share) - 1]
    await client.call("CLUSTER", "ADDSLOTSRANGE", from, to)
    await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
  }
  for (const [index, { url }] of servers.entries()) {
    await clients[0]?.call("CLUSTER", "MEET", "127.0.0.1", new URL(url).port, busPorts[index] ?? 0)
  }
  await until("the nodes know each other", async () => {
    const maps = await Promise.all(clients.map((client) => client.call("CLUSTER", "SLOTS")))
    return maps.every((map) => Array.isArray(map) && map.length === masters)
  })
  const [first, last] = [clients[0], clients[masters]]
  if (first !== undefined && last !== undefined) {
    const id = await nodeId(first)
    await until("the first master has a replica", async () => {
      const info = String(await last.info("replication"))
      // Told again, Redis would begin again.
      if (!info.includes("role:slave")) await last.call("CLUSTER", "REPLICATE", id)
      return info.includes("master_link_status:up")
    })
  }
  await until("the cluster is up", async () => {
    const infos = await Promise.all(clients.map((client) => client.call("CLUSTER", "INFO")))
    return infos.every((info) => String(info).includes("cluster_state:ok"))
  })
  const hosts = servers.map(({ url }) => new URL(url).host).join(",")
  return { url: `redis+cluster://${hosts}/`, servers, clients }
}

const given = process.env.KEELPLANE_TEST_REDIS_CLUSTER_URL
const shared = new Map<string, Promise<string>>()

/** The cluster that the tests of a file share; `program` is the server's, unless it is {@link startRedis}'s. */
export function clusterUrl(program = ""): Promise<string> {
  if (given !== undefined) return Promise.resolve(given)
  const known = shared.get(program)
  if (known !== undefined) return known
  const made = startCluster(program === "" ? {} : { program }).then(({ url }) => url)
  shared.set(program, made)
  return made
}

/** The kinds of clusters that the suites run on. */
export const clusterKinds: readonly Pick<RedisKind, "name" | "skip" | "url">[] =
  given === undefined
    ? redisKinds.map(({ name, ownSkip, program }) => ({
        name: `${name} (cluster)`,
        skip: ownSkip,
        url: () => clusterUrl(program()),
      }))
    : [{ name: "Redis (cluster)", skip: false, url: () => clusterUrl() }]

/** The id by which the other nodes know a node. */
export async function nodeId(client: Redis): Promise<string> {
  return String(await client.call("CLUSTER", "MYID"))
}

/** Starts a sentinel that watches a master under the name `main`; answers its port. */
export async function startSentinel(master: RedisServer): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-sentinel-"))
  const port = await freePort()
  const file = join(folder, "sentinel.conf")
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor main 127.0.0.1 ${new URL(master.url).port} 1`,
    "sentinel down-after-milliseconds main 500",
    "sentinel failover-timeout main 5000",
  ]
  writeFileSync(file, `${lines.join("\n")}\n`)
  const child = spawn(serverPath(), [file, "--sentinel"], { stdio: "ignore" })
  endWithProcess(child)
  atEnd(async () => {
    await killed(child)
    rmSync(folder, { recursive: true, force: true })
  })
  const client = bareClient(`redis://127.0.0.1:${port}`)
  await until("the sentinel knows master and replica", async () => {
    const state = await client.call("SENTINEL", "REPLICAS", "main")
    return Array.isArray(state) && state.length === 1
  })
  return port
}
