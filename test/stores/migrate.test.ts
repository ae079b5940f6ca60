import assert from "node:assert/strict"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, afterEach, before, beforeEach, describe, it } from "node:test"
import { pathToFileURL } from "node:url"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { assertIsolation } from "../../src/stores/postgres/index.ts"
import { listMigrations, migrate, readMigrations } from "../../src/stores/postgres/migrate.ts"
import { PgliteStream } from "../../src/stores/postgres/pglite-stream.ts"
import { Pool } from "../../src/stores/postgres/pool.ts"
import { PooledDatabase } from "../../src/stores/postgres/pooled-database.ts"
import { Session } from "../../src/stores/postgres/session.ts"

function mismatch(pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, "SCHEMA_MISMATCH")
    assert.match(error.message, pattern)
    return true
  }
}

/** Counts the writes to the database thread: one each is a round trip. */
class CountingStream extends PgliteStream {
  trips = 0

  override _write(...args: Parameters<PgliteStream["_write"]>): void {
    this.trips++
    super._write(...args)
  }

  override _writev(...args: Parameters<PgliteStream["_writev"]>): void {
    this.trips++
    super._writev(...args)
  }
}

describe("migrations", { timeout: 120_000 }, () => {
  let stream: CountingStream
  let session: Session
  let folder: string

  const connect = () => {
    stream = new CountingStream({ fsync: false, settings: {} })
    return Session.connect({ stream: () => stream, user: "postgres", database: "postgres" })
  }
  const read = () => readMigrations(pathToFileURL(`${folder}/`))
  const file = (name: string, sql: string) => writeFile(join(folder, name), sql)

  before(async () => {
    session = await connect()
  })
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "keelplane-migrations-"))
    await session.assume("owner")
    await session.script("drop schema if exists keelplane cascade")
    await file("0001_first.sql", "create table first (x int); insert into first values (1);")
    await file("0002_second.sql", "create table second (x int);")
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))
  after(() => session.close())

  it("apply once, in order, and are listed with their times", async () => {
    assert.deepEqual(
      (await migrate(session, await read())).map(({ name }) => name),
      ["first", "second"],
    )
    assert.deepEqual(await migrate(session, await read()), [])
    await file("0003_third.sql", "create table third (x int);")
    const listed = await listMigrations(session, await read())
    assert.deepEqual(
      listed.map(({ appliedAt }) => appliedAt instanceof Date),
      [true, true, false],
    )
    assert.deepEqual(
      (await migrate(session, await read())).map(({ name }) => name),
      ["third"],
    )
  })

  it("only tell what they would do in a dry run", async () => {
    const would = await migrate(session, await read(), { dryRun: true })
    assert.deepEqual(
      would.map(({ version }) => version),
      [1, 2],
    )
    const [found] = await session.run([
      { name: "", text: "select to_regclass('keelplane.first') as found", values: [] },
    ])
    assert.deepEqual(found?.rows, [{ found: null }])
  })

  it("stop at one that fails, keep what came before it and leave nothing of it", async () => {
    await file("0002_second.sql", "create table half (x int); select nonsense();")
    await assert.rejects(
      async () => migrate(session, await read()),
      mismatch(/migration 2 \(second\) failed/),
    )
    const listed = await listMigrations(session, await read())
    assert.deepEqual(
      listed.map(({ appliedAt }) => appliedAt !== undefined),
      [true, false],
    )
    await file("0002_second.sql", "create table half (x int);")
    await migrate(session, await read())
  })

  it("run alone what no transaction may hold, and again what was cut short", async () => {
    const alone = (last: string) =>
      file(
        "0002_second.sql",
        `-- outside of a transaction
-- Why; it says.

drop index concurrently if exists keelplane.first_x;
create index concurrently first_x
  on keelplane.first (x);
${last}`,
      )
    await file("0001_first.sql", "create table keelplane.first (x int);")
    await alone("select nonsense();\n")
    await assert.rejects(
      async () => migrate(session, await read()),
      mismatch(/migration 2 \(second\) failed; it runs again/),
    )
    await alone("")
    assert.equal((await migrate(session, await read())).length, 1)
    const [found] = await session.run([
      {
        name: "",
        text: "select indisvalid as valid from pg_index where indexrelid = 'keelplane.first_x'::regclass",
        values: [],
      },
    ])
    assert.deepEqual(found?.rows, [{ valid: true }])
  })

  it("refuse a file that was edited after it was applied", async () => {
    await migrate(session, await read())
    await file("0001_first.sql", "create table first (x int, y int);")
    await assert.rejects(
      async () => migrate(session, await read()),
      mismatch(/migration 1 \(first\) was changed/),
    )
    await assert.rejects(async () => listMigrations(session, await read()), mismatch(/was changed/))
  })

  it("refuse a database that is newer", async () => {
    await migrate(session, await read())
    await rm(join(folder, "0002_second.sql"))
    await assert.rejects(
      async () => migrate(session, await read()),
      mismatch(/migration 2 \(second\).*newer/),
    )
  })

  it("refuse a file whose name cannot be ordered, and two with one version", async () => {
    await file("0002_again.sql", "")
    await assert.rejects(read(), /two migrations have version 2/)
    await file("third.sql", "")
    await assert.rejects(read(), /third\.sql is not named/)
  })

  describe("of this version", () => {
    const scope = systemScope(DEFAULT_TENANT)

    /** A database over the session of this file, which stays open. */
    function borrow(): PooledDatabase {
      const pool = new Pool({
        connect: async () => session,
        min: 1,
        max: 1,
        maxWaiting: 10,
        idleMs: Number.POSITIVE_INFINITY,
        lifetimeMs: Number.POSITIVE_INFINITY,
        acquireMs: Number.POSITIVE_INFINITY,
      })
      return new PooledDatabase({ pool, clock: systemClock, cancel: undefined, serverTimeouts: false })
    }

    it("put every table with a tenant behind row-level security; the check finds one that is not", async () => {
      await migrate(session, await readMigrations())
      const database = borrow()
      await assertIsolation(database)
      await session.assume("owner")
      await session.script("create table keelplane.open_door (tenant text)")
      await assert.rejects(assertIsolation(database), /table open_door does not force it/)
      await session.assume("owner")
      await session.script("alter table keelplane.open_door owner to keelplane_app")
      await assert.rejects(assertIsolation(database), /role keelplane_app owns table open_door/)
      await session.assume("owner")
      await session.script("drop table keelplane.open_door; alter role keelplane_app bypassrls")
      await assert.rejects(assertIsolation(database), /role keelplane_app has BYPASSRLS/)
      await session.assume("owner")
      await session.script("alter role keelplane_app nobypassrls")
    })

    it("cost one round trip a statement, two a transaction, three with a request_id", async () => {
      await migrate(session, await readMigrations())
      const database = borrow()
      const one = { name: "test_one", text: "select 1 as x" }
      await database.query(scope, one)
      const trips = async (work: () => Promise<unknown>) => {
        const start = stream.trips
        await work()
        return stream.trips - start
      }
      assert.equal(await trips(() => database.query(scope, one)), 1)
      assert.equal(await trips(() => database.pipeline(scope, [one, one, one])), 1)
      assert.equal(await trips(() => database.transaction(scope, (tx) => tx.query(one))), 2)
      const idempotency = { method: "m", requestId: "r", bodyHash: new Uint8Array(32) }
      const keyed = () => database.mutate({ ...scope, idempotency }, "o", (tx) => tx.query(one))
      assert.equal(await trips(keyed), 3)
    })
  })
})
