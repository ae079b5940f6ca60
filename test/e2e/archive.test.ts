/** A tenant's whole life moves from the embedded default to a server of each kind and back, by the program itself. */
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { createReadStream, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { gunzipSync } from "node:zlib"
import { AuditService } from "../../src/gen/keelplane/v1/audit_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import {
  administer as administerCql,
  atEnd as cassandraEnd,
  cassandraHosts,
  cassandraSkip,
  freshKeyspace,
} from "../engines/cassandra.ts"
import { milvusStandalone } from "../engines/milvus.ts"
import { administer as administerSql, atEnd as postgresEnd, postgresServers } from "../engines/postgres.ts"
import { redisSkip, startRedis } from "../engines/redis.ts"
import { startDaemon } from "../support/daemon.ts"
import { until } from "../support/until.ts"
import { outcome } from "./outcome.ts"
import { play } from "./registry.ts"
import { SCENARIO, type Seen } from "./scenario.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs the program to its end, with `input` as its standard input. */
function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  input?: string,
): Promise<Ended> {
  const child = spawn(process.execPath, [main, ...args], { env: { PATH: process.env.PATH, ...env } })
  if (input === undefined) child.stdin.end()
  else createReadStream(input).pipe(child.stdin)
  let stdout = ""
  let stderr = ""
  child.stdout.on("data", (chunk) => {
    stdout += String(chunk)
  })
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk)
  })
  return new Promise((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })
}

async function everything(): Promise<Record<string, string>> {
  const server = (await postgresServers[0]?.url()) ?? ""
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administerSql(server, `create database ${name}`)
  postgresEnd(() => administerSql(server, `drop database ${name} with (force)`))
  const url = new URL(server)
  url.pathname = `/${name}`
  const hosts = await cassandraHosts()
  const keyspace = freshKeyspace()
  cassandraEnd(() => administerCql(hosts, `drop keyspace if exists ${keyspace}`))
  return {
    KEELPLANE_STORES__MEMORY__URL: url.href,
    KEELPLANE_STORES__CONTROL__URL: url.href,
    KEELPLANE_STORES__EVENTS__URL: `${hosts}/${keyspace}?replication=1`,
    KEELPLANE_STORES__EVENTS__CONFIGS: "true",
    KEELPLANE_STORES__VECTORS__URL: await milvusStandalone.url(),
    KEELPLANE_STORES__CACHE__URL: (await startRedis()).url,
  }
}

const everySkip =
  (postgresServers[0]?.skip ?? "no PostgreSQL") || redisSkip || cassandraSkip || milvusStandalone.skip

describe("moving a tenant", { timeout: 600_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-archive-"))
  const file = (name: string) => join(folder, name)
  const items = (name: string) =>
    gunzipSync(readFileSync(file(name)))
      .toString("utf8")
      .trimEnd()
      .split("\n")
      .slice(1, -1)
      .toSorted()
  const exportTo = (name: string, more: readonly string[], env = {}) =>
    run(["export", "--tenant", "default", "--out", file(name), ...more], env)
  const importFrom = (name: string, more: readonly string[], env = {}) =>
    run(["import", "--in", file(name), ...more], env)
  const done = (ended: Ended) => assert.equal(ended.code, 0, ended.stderr)

  before(async () => {
    const daemon = await startDaemon({ dataDir: file("first") })
    try {
      const channel = daemon.channel()
      const seen: Seen = new Map()
      for (const step of SCENARIO) await outcome(() => play(channel, step, seen))
      channel.close()
      const busy = await exportTo("busy.gz", ["--data-dir", file("first")])
      assert.equal(busy.code, 75, "a data directory that a daemon serves is left alone")
    } finally {
      await daemon.end()
    }
    done(await exportTo("first.gz", ["--data-dir", file("first")]))
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  it("from one data directory to another, through a pipe", async () => {
    const plain = await run(["export", "--tenant", "default", "--data-dir", file("first")])
    done(plain)
    assert.match(plain.stderr, /cache stays behind/)
    writeFileSync(file("plain"), plain.stdout)
    const imported = await run(["import", "--data-dir", file("second")], {}, file("plain"))
    done(imported)
    done(await exportTo("second.gz", ["--data-dir", file("second")]))
    assert.deepEqual(items("second.gz"), items("first.gz"))
    const again = await importFrom("first.gz", ["--data-dir", file("second")])
    assert.equal(again.code, 1)
    assert.match(again.stderr, /not empty here/)
  })

  it("not from an archive that was cut short", async () => {
    writeFileSync(file("cut.gz"), readFileSync(file("first.gz")))
    truncateSync(file("cut.gz"), Math.floor(readFileSync(file("first.gz")).length / 2))
    const refused = await importFrom("cut.gz", ["--data-dir", file("third")])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /damaged|cut short/)
  })

  it("to a server of each kind, on with his life there, and home again", { skip: everySkip }, async () => {
    const env = await everything()
    const dir = ["--data-dir", file("unused")]
    done(await importFrom("first.gz", dir, env))
    done(await exportTo("servers.gz", dir, env))
    assert.deepEqual(items("servers.gz"), items("first.gz"))

    const daemon = await startDaemon({ env, readyTimeoutMs: 120_000 })
    const channel = daemon.channel()
    try {
      const { intact } = await channel.stub(AuditService).verifyAudit({})
      assert.equal(intact, true)
      const { streams } = await channel.stub(EventService).listStreams({})
      for (const { stream, revision } of streams) {
        const append = { stream, expected: { case: "revision", value: revision } } as const
        await channel.stub(EventService).appendEvents({ ...append, events: [{ type: "Moved" }] })
      }
      const memory = channel.stub(MemoryService)
      await memory.createCollection({ collection: { id: "copied", embedder: "builtin-lexical-384" } })
      await memory.upsertRecords({ collectionId: "copied", records: [{ id: "one", text: "a word" }] })
      const collections = await memory.listCollections({})
      assert.ok(collections.collections.length >= 2)
    } finally {
      channel.close()
    }
    // Servers have no lock: what a daemon still owes to other stores is what keeps an archive from being made.
    await until(
      "everything owed is delivered",
      async () => (await exportTo("lived.gz", dir, env)).code === 0,
      120_000,
    )
    await daemon.stop()
    done(await exportTo("lived.gz", dir, env))
    const home = await importFrom("lived.gz", ["--data-dir", file("home")])
    done(home)
    assert.match(home.stderr, /copied .*LOCAL/)
    done(await exportTo("home.gz", ["--data-dir", file("home")]))
    const local = (name: string) =>
      items(name).map((line) => line.replace(/"storageMode":"\w+"/, '"storageMode":"LOCAL"'))
    assert.deepEqual(local("home.gz"), local("lived.gz"))
    assert.ok(items("lived.gz").length > items("first.gz").length)
  })
})
