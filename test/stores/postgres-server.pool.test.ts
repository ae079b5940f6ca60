/** The pool against a server that counts connections itself. */
import assert from "node:assert/strict"
import { afterEach, before, describe, it } from "node:test"
import type { Database, Tx } from "../../src/stores/postgres/database.ts"
import { administer, ownServerSkip } from "../engines/postgres.ts"
import { until } from "../support/until.ts"
import { backend, fresh, insert, type OwnServer, ownServer, reason } from "./postgres-server.support.ts"

const FOREVER = Number.POSITIVE_INFINITY

describe("the pool of a PostgreSQL server", { skip: ownServerSkip, timeout: 300_000 }, () => {
  let own: OwnServer
  before(async () => {
    own = await ownServer({
      settings: { max_connections: "12", superuser_reserved_connections: "0", reserved_connections: "0" },
    })
  })

  afterEach(() => own.closeAll())

  /** How many connections the server has from engines of this name. */
  async function connections(watcher: Database, name: string): Promise<number> {
    const { rows } = await watcher.query<{ n: bigint }>(fresh(), {
      text: "select count(*) as n from pg_stat_activity where application_name = $1",
      values: [name],
    })
    return Number(rows[0]?.n)
  }

  const named = (name: string) => ({ url: `${own.server.url}?application_name=${name}` })

  /** Takes `count` connections until it is called back. */
  async function hold(database: Database, count: number): Promise<() => Promise<void>> {
    const gate = Promise.withResolvers<void>()
    const started = Array.from({ length: count }, () => Promise.withResolvers<void>())
    const holders = started.map(({ resolve }) =>
      database.transaction(fresh(), async (tx: Tx) => {
        await tx.query({ text: "select 1" })
        resolve()
        await gate.promise
      }),
    )
    await Promise.all(started.map(({ promise }) => promise))
    return async () => {
      gate.resolve()
      await Promise.all(holders)
    }
  }

  it("opens no connection before the first call, no more than max, and tells what it does", async () => {
    const watcher = await own.open({ max: 1 })
    const engine = await own.open({ ...named("counted"), max: 3, idleMs: FOREVER })
    assert.deepEqual(engine.stats(), { inUse: 0, idle: 0, waiting: 0 })
    assert.equal(await connections(watcher.database, "counted"), 0)
    const release = await hold(engine.database, 3)
    const waiting = [1, 2].map(() => engine.ping(fresh()))
    await until("two calls wait", () => engine.stats().waiting === 2)
    assert.deepEqual(engine.stats(), { inUse: 3, idle: 0, waiting: 2 })
    assert.equal(await connections(watcher.database, "counted"), 3)
    await release()
    await Promise.all(waiting)
    await until("all are idle", () => engine.stats().inUse === 0)
    assert.deepEqual(engine.stats(), { inUse: 0, idle: 3, waiting: 0 })
    assert.equal(await connections(watcher.database, "counted"), 3)
  })

  it("closes idle connections down to min", async () => {
    const watcher = await own.open({ max: 1 })
    const engine = await own.open({ ...named("shrinking"), min: 1, max: 3, idleMs: 200 })
    await (await hold(engine.database, 3))()
    await until("one is left", async () => (await connections(watcher.database, "shrinking")) === 1)
    await until("the pool knows", () => engine.stats().idle === 1)
    const kept = await backend(engine.database)
    // Longer than any connection over `min` may be idle.
    await new Promise((resolve) => setTimeout(resolve, 600))
    assert.equal(await backend(engine.database), kept)
  })

  it("replaces a connection after its lifetime, idle or not", async () => {
    const engine = await own.open({ min: 1, max: 1, lifetimeMs: 300, idleMs: FOREVER })
    const first = await backend(engine.database)
    await until("another process answers", async () => (await backend(engine.database)) !== first)
    const second = await backend(engine.database)
    await until("an idle one goes, too", () => engine.stats().idle === 0)
    assert.notEqual(await backend(engine.database), second)
  })

  it("sheds callers beyond maxWaiting, and those that waited too long", async () => {
    const engine = await own.open({ max: 1, maxWaiting: 1, acquireMs: 200 })
    const release = await hold(engine.database, 1)
    const patient = engine.ping(fresh())
    await until("one waits", () => engine.stats().waiting === 1)
    await assert.rejects(engine.ping(fresh()), reason("OVERLOADED"))
    await assert.rejects(patient, reason("OVERLOADED"))
    assert.equal(engine.stats().waiting, 0)
    await release()
    await engine.ping(fresh())
  })

  it("goes on with the connections it has when the server has room for no more", async () => {
    const greedy = await own.open({ ...named("greedy"), max: 30, acquireMs: 60_000 })
    const calls = Array.from({ length: 60 }, (_, i) =>
      greedy.database.query(fresh(), { text: "select $1::int as i, pg_sleep(0.02)", values: [i] }),
    )
    const answers = await Promise.all(calls)
    assert.deepEqual(
      answers.map(({ rows }) => rows[0]?.i),
      answers.map((_, i) => i),
    )
    const release = await hold(greedy.database, greedy.stats().idle)
    const late = await own.open()
    await assert.rejects(
      Promise.all(Array.from({ length: 13 }, () => late.ping(fresh()))),
      reason("OVERLOADED"),
    )
    await release()
    await greedy.close()
    await until("there is room again", () =>
      late.ping(fresh()).then(
        () => true,
        () => false,
      ),
    )
  })

  it("loses no connection to an error in SQL", async () => {
    const engine = await own.open({ max: 1 })
    const { database } = engine
    const scope = fresh()
    const process = await backend(database)
    await database.query(scope, insert(scope.tenant, "twice"))
    for (let i = 0; i < 5; i++) {
      await assert.rejects(database.query(scope, insert(scope.tenant, "twice")))
      await assert.rejects(database.query(scope, { text: "select 1/0" }), reason("INVALID_FIELD"))
      await assert.rejects(database.query(scope, { text: "select from nothing" }), reason("SCHEMA_MISMATCH"))
      await assert.rejects(database.transaction(scope, (tx) => tx.query({ text: "nonsense" })))
      await assert.rejects(
        database.transaction(scope, async () => {
          throw new Error("ours")
        }),
      )
    }
    assert.equal(await backend(database), process)
  })

  it("replaces connections whose prepared statements a migration has made stale, behind the caller's back", async () => {
    const engine = await own.open({ max: 3 })
    const scope = fresh()
    await administer(
      own.server.url,
      "create table public.changing (a int)",
      "grant select on public.changing to public",
    )
    const read = { name: "test_changing", text: "select * from changing" }
    await Promise.all([1, 2, 3].map(() => engine.database.query(scope, read)))
    await administer(own.server.url, "alter table public.changing add column b int")
    for (let i = 0; i < 4; i++) assert.equal((await engine.database.query(scope, read)).count, 0)
  })
})
