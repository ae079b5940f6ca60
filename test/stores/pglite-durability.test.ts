import assert from "node:assert/strict"
import { fork } from "node:child_process"
import { once } from "node:events"
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { getOrCreateSecret, openEmbedded } from "../../src/stores/postgres/index.ts"
import { migrate, readMigrations } from "../../src/stores/postgres/migrate.ts"
import { PgliteStream } from "../../src/stores/postgres/pglite-stream.ts"
import { Pool } from "../../src/stores/postgres/pool.ts"
import { PooledDatabase } from "../../src/stores/postgres/pooled-database.ts"
import { Session } from "../../src/stores/postgres/session.ts"

const WRITER = new URL("./pglite-writer.ts", import.meta.url)
const ROUNDS = 5
const scope = systemScope(DEFAULT_TENANT)

async function acknowledgedIn(file: string): Promise<number[]> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return ""
    throw error
  })
  return text.split("\n").filter(Boolean).map(Number)
}

/** Lets a writer run until it has `more` acknowledged writes and a bit, then kills it without warning. */
async function writeAndKill(dataDir: string, file: string, first: number, more: number): Promise<void> {
  const writer = fork(WRITER, [dataDir, file, String(first)], { stdio: "inherit" })
  const gone = once(writer, "exit")
  for (let acknowledged = 0; acknowledged < more && writer.exitCode === null; acknowledged++) {
    await Promise.race([once(writer, "message"), gone])
  }
  writer.kill("SIGKILL")
  const [code, signal] = await gone
  assert.equal(signal, "SIGKILL", `the writer ended by itself with ${code}`)
}

describe("PGlite's durability", { timeout: 300_000 }, () => {
  let root: string
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "keelplane-durability-"))
  })
  after(() => rm(root, { recursive: true, force: true }))

  it("has every acknowledged write after a SIGKILL at any moment", async () => {
    const dataDir = join(root, "killed")
    const file = join(root, "acknowledged")
    let next = 0
    for (let round = 0; round < ROUNDS; round++) {
      await writeAndKill(dataDir, file, next, 50 + Math.floor(Math.random() * 300))
      const acknowledged = await acknowledgedIn(file)
      const engine = await openEmbedded({ dataDir })
      try {
        const { rows } = await engine.database.query(scope, {
          text: "select request_id::int as id, body_hash from keelplane.idempotency where method = 'test' order by 1",
        })
        const stored = rows.map(({ id }) => Number(id))
        const missing = acknowledged.filter((id) => !new Set(stored).has(id))
        assert.deepEqual(missing, [], `round ${round}`)
        for (const { id, body_hash } of rows) {
          assert.deepEqual(body_hash, Buffer.alloc(Number(id) % 3000, Number(id)), `row ${id} is whole`)
        }
        assert.ok(stored.length - acknowledged.length <= round + 1, "at most one write a round was under way")
        next = Math.max(...stored) + 1
      } finally {
        await engine.close()
      }
    }
  })

  it("starts anew when the first start was cut short", async () => {
    const dataDir = join(root, "cut-short")
    await mkdir(join(dataDir, "postgres"), { recursive: true })
    await writeFile(join(dataDir, "postgres", "PG_VERSION"), "18\n")
    await writeFile(join(dataDir, "postgres.initialising"), "")
    const engine = await openEmbedded({ dataDir })
    await engine.migrate()
    await engine.ping(scope)
    await engine.close()
    assert.deepEqual(await readdir(dataDir), ["postgres"])
    assert.equal((await stat(dataDir)).mode & 0o777, 0o700)
  })

  it("says so when the directory is in use, and leaves it alone", async () => {
    const dataDir = join(root, "used")
    const engine = await openEmbedded({ dataDir })
    const unready = (error: unknown) => error instanceof DomainError && error.reason === "SCHEMA_MISMATCH"
    await assert.rejects(engine.ping(scope), unready, "not migrated yet")
    await engine.migrate()
    await assert.rejects(openEmbedded({ dataDir }), (error) => {
      assert.ok(error instanceof DomainError)
      assert.equal(error.reason, "FAILED_PRECONDITION")
      assert.match(error.message, new RegExp(`${process.pid}`))
      assert.ok(error.message.includes(dataDir) && !error.message.includes("\n"))
      return true
    })
    await engine.ping(scope)
    await engine.close()
    await (await openEmbedded({ dataDir })).close()
  })

  it("opens the database again when its thread dies, and says that a write under way may have been applied", async () => {
    const directory = join(root, "crashed")
    const streams: PgliteStream[] = []
    const pool = new Pool({
      connect: () =>
        Session.connect({
          stream: () => {
            const stream = new PgliteStream({ directory, fsync: true, settings: {} })
            streams.push(stream)
            return stream
          },
          user: "postgres",
          database: "postgres",
        }),
      min: 1,
      max: 1,
      maxWaiting: 10,
      idleMs: Number.POSITIVE_INFINITY,
      lifetimeMs: Number.POSITIVE_INFINITY,
      acquireMs: Number.POSITIVE_INFINITY,
    })
    const owner = await pool.acquire(systemScope(), "owner")
    await migrate(owner, await readMigrations())
    pool.release(owner)
    const database = new PooledDatabase({
      pool,
      clock: systemClock,
      cancel: undefined,
      serverTimeouts: false,
    })
    const count = { text: "select count(*)::int as n from keelplane.platform_settings" }
    await getOrCreateSecret(database, "kept", 32)
    const slowWrite = {
      text: "insert into keelplane.platform_settings (key, value) select 'lost', '' from pg_sleep(60)",
    }
    const writing = database.query(systemScope(), slowWrite)
    const settled = assert.rejects(
      writing,
      (error) => error instanceof DomainError && error.reason === "OUTCOME_UNKNOWN",
    )
    while (pool.stats().inUse === 0) await new Promise((resolve) => setImmediate(resolve))
    await new Promise((resolve) => setImmediate(resolve))
    streams[0]?.destroy(new Error("the database thread failed: connection lost"))
    await settled
    assert.deepEqual((await database.query(systemScope(), count)).rows, [{ n: 1 }])
    assert.equal(streams.length, 2)
    await database.close()
  })

  it("reports a database that cannot be opened as unavailable", async () => {
    const dataDir = join(root, "broken")
    await mkdir(join(dataDir, "postgres"), { recursive: true })
    await writeFile(join(dataDir, "postgres", "PG_VERSION"), "9\n")
    const broken = (error: unknown) => error instanceof DomainError && error.reason === "STORE_UNAVAILABLE"
    await assert.rejects(openEmbedded({ dataDir }), broken)
    assert.deepEqual(await readdir(dataDir), ["postgres"], "the lock is released")
  })
})
