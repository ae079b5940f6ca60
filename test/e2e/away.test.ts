/**
 * Servers that are away when a daemon starts: it starts, serves what it can, and heals when they come. Servers that answer and cannot be
 * used stop the start with one line that names the key. `keelplane migrate` waits for nobody.
 */
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer, connect as dial, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { startCli } from "../cli/start-cli.ts"
import {
  administer as administerCql,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
} from "../engines/cassandra.ts"
import { milvusLite } from "../engines/milvus.ts"
import { administer as administerSql, postgresServers } from "../engines/postgres.ts"
import { ownServerSkip, startRedis } from "../engines/redis.ts"
import { freePort, until } from "../support/daemon.ts"
import { CallError, type Channel, connect } from "../support/grpc-client.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const [sqlServer] = postgresServers
/** After this a daemon that should have refused to start is taken for one that did not. */
const CLI_MS = 90_000
const text = (value: string) => ({ case: "text", value }) as const

/** A store whose server is away at first. */
interface Away {
  readonly name: string
  readonly skip: string | false
  /** Where the server really is. */
  target(): Promise<URL>
  /** The daemon's environment; `url` leads to the server once it has come. */
  environment(url: URL): Promise<Record<string, string>>
  /** Needs the store, and changes nothing where it was done before. */
  work(channel: Channel): Promise<unknown>
  readonly service: string | undefined
  /** The first key that its failures name; undefined where `migrate` has nothing to do there. */
  readonly key: string | undefined
  /** Takes back what it left on the server. */
  clean(): Promise<void>
}

const database = `keelplane_away_${process.pid}`
const keyspace = freshKeyspace()

const STORES: readonly Away[] = [
  {
    name: "PostgreSQL",
    skip: sqlServer?.skip ?? "no PostgreSQL",
    target: async () => {
      const url = (await sqlServer?.url()) ?? ""
      await administerSql(url, `create database ${database}`)
      return new URL(url)
    },
    environment: async (url) => {
      url.pathname = `/${database}`
      const names = ["MEMORY", "EVENTS", "CONTROL"].map((name) => `KEELPLANE_STORES__${name}__URL`)
      return Object.fromEntries(names.map((name) => [name, url.href]))
    },
    work: (channel) => channel.stub(ControlService).listUsers({}),
    service: "keelplane.v1.ControlService",
    key: "stores.memory.url",
    clean: async () =>
      administerSql((await sqlServer?.url()) ?? "", `drop database ${database} with (force)`),
  },
  {
    name: "Cassandra",
    skip: cassandraSkip,
    target: async () => new URL(await cassandraHosts()),
    environment: async ({ host }) => ({
      KEELPLANE_STORES__EVENTS__URL: `cassandra://${host}/${keyspace}?replication=1`,
    }),
    work: (channel) => channel.stub(EventService).listStreams({}),
    service: "keelplane.v1.EventService",
    key: "stores.events.url",
    clean: async () => administerCql(await cassandraHosts(), `drop keyspace if exists ${keyspace}`),
  },
  {
    name: "Milvus",
    skip: milvusLite.skip,
    target: async () => new URL(await milvusLite.url()),
    environment: async ({ host }) => ({ KEELPLANE_STORES__VECTORS__URL: `milvus://${host}` }),
    work: async (channel) => {
      const memory = channel.stub(MemoryService)
      const collection = { id: "direct", dimension: 2, storageMode: StorageMode.DIRECT }
      await memory.createCollection({ collection, requestId: "make" })
      const vector = { data: { case: "values" as const, value: { values: [1, 0] } } }
      await memory.upsertRecords({
        collectionId: "direct",
        records: [{ id: "a", vector }],
        requestId: "write",
      })
    },
    service: undefined,
    key: undefined,
    clean: async () => {},
  },
  {
    name: "Redis",
    skip: ownServerSkip,
    target: async () => new URL((await startRedis()).url),
    environment: async ({ host }) => ({ KEELPLANE_STORES__CACHE__URL: `redis://${host}` }),
    work: (channel) => channel.stub(CacheService).set({ key: "k", value: text("v") }),
    service: "keelplane.v1.CacheService",
    key: undefined,
    clean: async () => {},
  },
]

/** Leads to a server from now on. */
async function lead(port: number, to: URL): Promise<{ close(): void }> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((near) => {
    const far = dial(Number(to.port), to.hostname)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on("error", () => other.destroy())
      one.on("close", () => other.destroy())
      one.pipe(other)
    }
  })
  server.listen(port, "127.0.0.1")
  await once(server, "listening")
  return {
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

async function cli(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ readonly code: number | null; readonly stderr: string }> {
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  })
  let stderr = ""
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk)
  })
  const late = setTimeout(() => child.kill("SIGKILL"), CLI_MS)
  const [code] = (await once(child, "close")) as [number | null]
  clearTimeout(late)
  return { code, stderr }
}

async function isServing(channel: Channel, service: string): Promise<boolean | undefined> {
  const { services } = await channel.stub(AdminService).getStatus({})
  return services.find(({ name }) => name === service)?.serving
}

async function works(store: Away, channel: Channel): Promise<boolean> {
  try {
    await store.work(channel)
    return true
  } catch (error) {
    if (error instanceof CallError && error.reason === "STORE_UNAVAILABLE") return false
    throw error
  }
}

for (const store of STORES) {
  describe(`${store.name}, away at the start`, { skip: store.skip, timeout: 400_000 }, () => {
    it("does not keep the daemon from starting, nor from healing when it comes", async (t) => {
      const folder = mkdtempSync(join(tmpdir(), "keelplane-away-"))
      t.after(() => rmSync(folder, { recursive: true, force: true }))
      const target = await store.target()
      t.after(() => store.clean())
      const port = await freePort()
      const url = new URL(target)
      url.host = `127.0.0.1:${port}`
      const env = await store.environment(url)
      const [data, ops] = [await freePort(), await freePort()]
      const flags = ["--data-dir", join(folder, "data"), "--listen", `127.0.0.1:${data}`]

      if (store.key !== undefined) {
        const { code, stderr } = await cli(["migrate", "--data-dir", join(folder, "data")], env)
        assert.equal(code, 1)
        assert.match(stderr, /^keelplane: [^\n]+\n$/)
        assert.ok(stderr.includes(store.key), stderr)
      }

      const daemon = await startCli(main, [...flags, "--ops-listen", `127.0.0.1:${ops}`], env)
      t.after(async () => {
        daemon.kill("SIGTERM")
        await daemon.ended
      })
      const channel = connect(`127.0.0.1:${data}`)
      t.after(() => channel.close())
      assert.equal(await works(store, channel), false)
      if (store.service !== undefined) assert.equal(await isServing(channel, store.service), false)
      if (store.name !== "Redis") {
        await channel.stub(CacheService).set({ key: "k", value: text("v") })
        assert.equal((await channel.stub(CacheService).get({ key: "k" })).found, true)
      }

      const way = await lead(port, target)
      t.after(() => way.close())
      await until(() => works(store, channel), "the store to be used", 120_000)
      const { service } = store
      if (service !== undefined)
        await until(async () => (await isServing(channel, service)) === true, "its service to be serving")
    })
  })
}

describe("a server that cannot be used", { timeout: 300_000 }, () => {
  const refused = async (env: Record<string, string>, key: string) => {
    const folder = mkdtempSync(join(tmpdir(), "keelplane-refused-"))
    try {
      const args = ["serve", "--data-dir", folder, "--listen", "127.0.0.1:0", "--ops-listen", "none"]
      const { code, stderr } = await cli(args, env)
      assert.equal(code, 1)
      const told = stderr.split("\n").filter((line) => line.startsWith("keelplane: "))
      assert.equal(told.length, 1, stderr)
      assert.ok(told[0]?.includes(key), stderr)
      assert.ok(!stderr.includes("not-the-one"), "a password is told")
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  }

  it("stops the start: a cache with another password", { skip: ownServerSkip }, async () => {
    const server = await startRedis(["--requirepass", "the-one"], undefined, "the-one")
    const { host } = new URL(server.url)
    await refused({ KEELPLANE_STORES__CACHE__URL: `redis://:not-the-one@${host}` }, "stores.cache.url")
  })

  it("stops the start: a database that does not exist", { skip: sqlServer?.skip ?? "none" }, async () => {
    const url = new URL((await sqlServer?.url()) ?? "")
    url.pathname = "/keelplane_nobody_made_it"
    await refused({ KEELPLANE_STORES__CONTROL__URL: url.href }, "stores.control.url")
  })

  it("stops the start: a keyspace that nobody may make", { skip: cassandraSkip }, async () => {
    const url = `${await cassandraHosts()}/${freshKeyspace()}`
    await refused({ KEELPLANE_STORES__EVENTS__URL: url }, "stores.events.url")
  })
})
