/** Migrations on servers: by several daemons at once, by logins with no more rights than they need, and past a pooler. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { after, afterEach, before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import {
  assertIsolation,
  openServer,
  type ServerOptions,
  type SqlEngine,
} from "../../src/stores/postgres/index.ts"
import { type PgBouncer, pgbouncerSkip, startPgBouncer } from "../engines/pgbouncer.ts"
import { administer, ask, ownServerSkip, startPostgres } from "../engines/postgres.ts"
import type { Major } from "../engines/postgres-install.ts"
import type { PostgresServer } from "../engines/postgres-server.ts"
import { until } from "../support/until.ts"
import { fresh, insert, reason } from "./postgres-server.support.ts"

const opened: SqlEngine[] = []

async function open(options: ServerOptions): Promise<SqlEngine> {
  const engine = await openServer(options)
  opened.push(engine)
  return engine
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((engine) => engine.close()))
})

async function database(server: PostgresServer, owner = "postgres"): Promise<string> {
  const name = `d_${randomUUID().replaceAll("-", "")}`
  await administer(server.url, `create database ${name} owner ${owner}`)
  return name
}

const at = (server: PostgresServer, name: string, user = "postgres") =>
  `postgres://${user}@127.0.0.1:${server.port}/${name}`

for (const major of [18, 16] satisfies Major[]) {
  describe(`migrations on PostgreSQL ${major}`, { skip: ownServerSkip, timeout: 120_000 }, () => {
    let server: PostgresServer
    before(async () => {
      server = await startPostgres({}, major)
    })

    it("run once, whichever of several daemons that start together is first", async () => {
      const url = at(server, await database(server))
      const daemons = await Promise.all(Array.from({ length: 4 }, () => open({ url })))
      const applied = await Promise.all(daemons.map((engine) => engine.migrate()))
      const known = await daemons[0]?.listMigrations()
      assert.equal(applied.flat().length, known?.length)
      assert.equal(applied.filter((list) => list.length > 0).length, 1)
      assert.ok(known?.every(({ appliedAt }) => appliedAt !== undefined))
      await Promise.all(daemons.map((engine) => engine.ping(fresh())))
    })

    it("need a login that owns the schema; the daily one owns nothing", async () => {
      const [owner, daily] = [`owner_${major}`, `daily_${major}`]
      await administer(
        server.url,
        `create role ${owner} login createrole`,
        `create role ${daily} login`,
        `do $$ begin create role keelplane_app nologin; exception when duplicate_object then null; end $$`,
        `grant keelplane_app to ${owner}, ${daily}`,
      )
      const name = await database(server, owner)
      const engine = await open({ url: at(server, name, daily), migrationUrl: at(server, name, owner) })
      await assert.rejects(
        engine.database.query(fresh(), { text: "select * from keelplane.idempotency" }),
        reason("SCHEMA_MISMATCH"),
      )
      await assert.rejects(engine.migrate(), reason("SCHEMA_MISMATCH"), "pgvector is a superuser's to create")
      await administer(at(server, name), "create extension vector")
      await engine.migrate()
      await assertIsolation(engine.database)
      const scope = fresh()
      await engine.database.query(scope, insert(scope.tenant, "x"))
      for (const text of [
        "alter table keelplane.idempotency no force row level security",
        "create table keelplane.mine (a int)",
        "delete from keelplane.schema_migrations",
      ]) {
        await assert.rejects(engine.database.query(scope, { text }), DomainError)
      }
    })
  })
}

const skip = ownServerSkip || (await pgbouncerSkip())

describe("PostgreSQL behind PgBouncer in transaction mode", { skip, timeout: 120_000 }, () => {
  let server: PostgresServer
  let bouncer: PgBouncer
  let name: string
  before(async () => {
    server = await startPostgres()
    bouncer = await startPgBouncer(server.url)
    name = await database(server)
    await (await open({ url: at(server, name) })).migrate()
  })
  after(() => bouncer.stop())

  const pooled = (more: Partial<ServerOptions> = {}) =>
    open({ url: bouncer.url(name), pooler: "transaction", ...more })

  it("migrates by the server's own address only", async () => {
    await assert.rejects((await pooled()).migrate(), reason("FAILED_PRECONDITION"))
    assert.deepEqual(await (await pooled({ migrationUrl: at(server, name) })).migrate(), [])
  })

  it("tells a database without the schema", async () => {
    const bare = bouncer.url(await database(server))
    await assert.rejects(
      (await pooled({ url: bare })).database.query(fresh(), { text: "select * from keelplane.idempotency" }),
      reason("SCHEMA_MISMATCH"),
    )
  })

  it("leaves nothing behind on the connections that it shares", async () => {
    const engine = await pooled({ max: 8 })
    await Promise.all(
      Array.from({ length: 50 }, () => engine.database.query(fresh(), { text: "select pg_sleep(0.005)" })),
    )
    await assertIsolation(engine.database)
    const foreign = `select current_user::text as user, current_setting('search_path') as path,
      coalesce(current_setting('keelplane.tenant', true), '') as tenant, current_setting('statement_timeout') as timeout,
      (select count(*)::int from pg_prepared_statements where name <> '') as prepared`
    for (let i = 0; i < 8; i++) {
      const [row] = await ask(bouncer.url(name), foreign)
      assert.deepEqual(row, {
        user: "postgres",
        path: '"$user", public',
        tenant: "",
        timeout: "0",
        prepared: 0,
      })
    }
  })

  it("heals when the server behind it comes back", async () => {
    const engine = await pooled()
    const scope = fresh()
    await engine.database.query(scope, insert(scope.tenant, "before"))
    await server.stop("immediate")
    await assert.rejects(
      engine.database.query(
        { ...scope, deadlineMs: Date.now() + 2_000, signal: AbortSignal.timeout(2_000) },
        {
          text: "select 1",
        },
      ),
      reason("STORE_UNAVAILABLE", "DEADLINE_EXCEEDED"),
    )
    await server.start()
    await until("it answers", () =>
      engine.ping(scope).then(
        () => true,
        () => false,
      ),
    )
    await engine.database.query(scope, insert(scope.tenant, "after"))
  })
})
