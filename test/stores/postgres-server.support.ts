/** What the tests of a real server's own behaviour share. */
import assert from "node:assert/strict"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import type { Database, Statement } from "../../src/stores/postgres/database.ts"
import { openServer, type ServerOptions, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { freshTenant } from "../engines/pglite.ts"
import { ask, startPostgres } from "../engines/postgres.ts"
import type { PostgresServer, PostgresServerOptions } from "../engines/postgres-server.ts"

/** Accepts the DomainError of one of these reasons. */
export function reason(...expected: readonly string[]) {
  return (error: unknown): true => {
    assert.ok(error instanceof DomainError, String(error))
    assert.ok(
      expected.includes(error.reason),
      `${error.reason}, not ${expected.join(" or ")}: ${error.cause}`,
    )
    return true
  }
}

/** A scope of a tenant of its own. */
export const fresh = (): CallScope => systemScope(freshTenant())

/** Runs for a minute unless something stops it. `tag` finds it among the server's activity. */
export const sleep = (tag: string): Statement => ({ text: `select pg_sleep(60) /* ${tag} */` })

/** Changes something after a minute. */
export const slowWrite = (tag: string): Statement => ({
  text: `insert into keelplane.platform_settings (key, value) select 'never', '' from pg_sleep(60) /* ${tag} */`,
})

/** A row of a table that is there on every engine. */
export function insert(tenant: TenantId, id: string): Statement {
  return {
    name: "test_insert",
    text: `insert into keelplane.idempotency (tenant, method, request_id, operation, body_hash, created_at, expires_at)
      values ($1, 'test', $2, '', '', now(), now() + interval '1 day')`,
    values: [tenant, id],
  }
}

/** Which server process answers. */
export async function backend(database: Database, scope: CallScope = fresh()): Promise<number> {
  const { rows } = await database.query<{ pid: number }>(scope, { text: "select pg_backend_pid() as pid" })
  return rows[0]?.pid ?? 0
}

/** The server processes of `count` connections that are there at once. */
export async function backends(database: Database, count: number): Promise<readonly number[]> {
  const gate = Promise.withResolvers<void>()
  const pids: number[] = []
  const borrow = () =>
    database.transaction(fresh(), async (tx) => {
      const { rows } = await tx.query<{ pid: number }>({ text: "select pg_backend_pid() as pid" })
      if (pids.push(rows[0]?.pid ?? 0) === count) gate.resolve()
      await gate.promise
    })
  await Promise.all(Array.from({ length: count }, borrow))
  return pids.toSorted((a, b) => a - b)
}

/** How many statements with `tag` the server is running, in the eyes of its superuser. */
export async function running(url: string, tag: string): Promise<number> {
  const [row] = await ask(
    url,
    `select count(*)::int as n from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%${tag}%'`,
  )
  return Number(row?.n)
}

/** A server of the test's own with the schema on it. */
export interface OwnServer {
  readonly server: PostgresServer
  open(options?: Partial<ServerOptions>): Promise<SqlEngine>
  /** Closes what was opened; for `afterEach`. */
  closeAll(): Promise<void>
}

/** See {@link OwnServer}. */
export async function ownServer(options: PostgresServerOptions = {}): Promise<OwnServer> {
  const server = await startPostgres(options)
  const opened: SqlEngine[] = []
  const open = async (more: Partial<ServerOptions> = {}) => {
    const engine = await openServer({ url: server.url, ...more })
    opened.push(engine)
    return engine
  }
  const first = await openServer({ url: server.url })
  await first.migrate()
  await first.close()
  const closeAll = async () => {
    await Promise.all(opened.splice(0).map((engine) => engine.close()))
  }
  return { server, open, closeAll }
}
