/**
 * Cassandra for tests: KEELPLANE_TEST_CASSANDRA_URL (hosts and login; its keyspace is not used), else one node from pinned Maven
 * packages that all test files share, each in keyspaces of its own. Where none can be had the tests are skipped with the
 * reason; in CI that is a failure.
 */
import { createHash, randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after } from "node:test"
import { fileURLToPath } from "node:url"
import cassandra from "cassandra-driver"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import {
  type CassandraEngine,
  type CassandraOptions,
  openCassandra,
} from "../../src/stores/cassandra/index.ts"
import { freePorts } from "../support/free-ports.ts"
import { pathOf, skipReason, type Tool } from "../support/tools.ts"
import { cassandraJars, java, type Release } from "./cassandra-install.ts"
import { type RunningNode, startNode } from "./cassandra-node.ts"
import { leaseKept } from "./keeper.ts"

const given = process.env.KEELPLANE_TEST_CASSANDRA_URL
const program: Tool = given === undefined ? await java() : { path: "" }
const jars: Tool = given !== undefined || "missing" in program ? { path: "" } : await cassandraJars()
const system: Tool =
  given !== undefined || process.platform === "linux"
    ? { path: "" }
    : { missing: "the packaged Cassandra is run on Linux only" }

/** False, or why tests that need any cluster are skipped. */
export const cassandraSkip: string | false = skipReason(system, program, jars)

/** False, or why tests that stop nodes of their own are skipped. */
export const ringSkip: string | false =
  given === undefined ? cassandraSkip : "the nodes are not ours to stop (KEELPLANE_TEST_CASSANDRA_URL)"

/** False, or why tests on nodes of a release are skipped. */
export async function releaseSkip(release: Release): Promise<string | false> {
  return ringSkip === false ? skipReason(await cassandraJars(release)) : ringSkip
}

/** What is ended after the test file's tests, last first. Hooks made inside hooks would end with them. */
const endings: (() => Promise<void> | void)[] = []
after(async () => {
  for (const end of endings.reverse()) await end()
})

/** Does something after the test file's tests. */
export function atEnd(work: () => Promise<void> | void): void {
  endings.push(work)
}

const KEEPER = fileURLToPath(new URL("./cassandra-keeper.ts", import.meta.url))
const KEEPER_MS = 420_000

let shared: Promise<string> | undefined

/** The URL of the shared cluster up to its keyspace: `cassandra://host:port`. */
export function cassandraHosts(): Promise<string> {
  shared ??= given === undefined ? sharedNode() : Promise.resolve(given.replace(/^(\w+:\/\/[^/]+).*$/, "$1"))
  return shared
}

async function sharedNode(): Promise<string> {
  const place = `${process.getuid?.() ?? 0} ${pathOf(jars)}`
  const name = `keelplane-test-cassandra-${createHash("sha256").update(place).digest("hex").slice(0, 24)}`
  const { address } = await leaseKept(name, KEEPER, [pathOf(program), pathOf(jars)], KEEPER_MS)
  return `cassandra://${address}`
}

/** A keyspace's name that nobody has used. */
export function freshKeyspace(): string {
  return `test_${randomUUID().replaceAll("-", "").slice(0, 16)}`
}

/** A fresh, migrated keyspace, on the shared cluster unless `on` names another; closed and dropped after the tests. */
export async function testCassandra(
  options: Partial<CassandraOptions> = {},
  on: Promise<string> = cassandraHosts(),
): Promise<CassandraEngine> {
  const hosts = await on
  const keyspace = freshKeyspace()
  const engine = openCassandra({ url: `${hosts}/${keyspace}?replication=1`, ...options })
  atEnd(async () => {
    await engine.close()
    await administer(hosts, `drop keyspace if exists ${keyspace}`)
  })
  await engine.migrate()
  return engine
}

/** Runs one statement outside any keyspace. */
export async function administer(hosts: string, statement: string): Promise<void> {
  const client = await plainClient(hosts)
  try {
    await client.execute(statement, [], { readTimeout: 60_000 })
  } finally {
    await client.shutdown()
  }
}

/** The bare driver on a cluster; the caller ends it. */
export async function plainClient(hosts: string, keyspace?: string): Promise<cassandra.Client> {
  const { hostname, port } = new URL(hosts.replace(/^\w+:/, "http:"))
  const client = new cassandra.Client({
    contactPoints: [`${hostname}:${port}`],
    localDataCenter: "datacenter1",
    ...(keyspace === undefined ? {} : { keyspace }),
  })
  await client.connect()
  return client
}

/** Nodes of the test's own. */
export interface Ring {
  readonly nodes: readonly RunningNode[]
  /** As {@link cassandraHosts}. */
  readonly hosts: string
}

/** How a ring is to be. */
export interface RingOptions {
  readonly logins?: boolean
  readonly ports?: readonly [cql: number, storage: number]
  readonly release?: Release
}

const RING_HEAP_MB = 320
const RING_JOIN_MS = 120_000

/** Ports for a ring that is started later. */
export async function ringPorts(): Promise<readonly [cql: number, storage: number]> {
  const [cql = 0, storage = 0] = await freePorts("0.0.0.0", 2)
  return [cql, storage]
}

/** Starts `count` nodes on 127.0.0.1 and the following addresses; stopped after the test file's tests. */
export async function startRing(count: number, options: RingOptions = {}): Promise<Ring> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-ring-"))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  const [cqlPort, storagePort] = options.ports ?? (await ringPorts())
  const home = pathOf(await cassandraJars(options.release))
  const ips = Array.from({ length: count }, (_, index) => `127.0.0.${index + 1}`)
  // All at once: most of a start is waiting, and with each other as seeds none of them waits for the first.
  const nodes = await Promise.all(
    ips.map(async (ip, index) => {
      const node = await startNode({
        java: pathOf(program),
        jars: home,
        folder: join(folder, `n${index}`),
        ip,
        cqlPort,
        storagePort,
        seed: ips.join(","),
        place: [index, count],
        heapMb: RING_HEAP_MB,
        logins: options.logins ?? false,
      })
      atEnd(() => node.stop())
      return node
    }),
  )
  const hosts = `cassandra://127.0.0.1:${cqlPort}`
  if (options.logins !== true) for (const { ip } of nodes) await whole(`cassandra://${ip}:${cqlPort}`, count)
  return { nodes, hosts }
}

/** Waits until a node knows all others. */
async function whole(hosts: string, count: number): Promise<void> {
  const client = await plainClient(hosts)
  try {
    const until = Date.now() + RING_JOIN_MS
    for (;;) {
      const { rows } = await client.execute("select peer, schema_version from system.peers")
      if (rows.filter((row) => row.schema_version !== null).length === count - 1) return
      if (Date.now() > until) throw new Error(`the ring of ${count} has not come together`)
      await new Promise((resolve) => setTimeout(resolve, 200))
    }
  } finally {
    await client.shutdown()
  }
}

let tenants = 0

/** A tenant that nobody has used. */
export function freshTenant(): TenantId {
  return `tenant-${++tenants}` as TenantId
}
