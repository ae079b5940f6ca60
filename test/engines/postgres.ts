/**
 * PostgreSQL for tests: the server that KEELPLANE_TEST_POSTGRES_URL names (a login that may create databases, pgvector installed), else
 * servers of several major versions out of pinned packages, one of each per test file, started by the first that needs them.
 */
import { randomUUID } from "node:crypto"
import { after } from "node:test"
import { connectionConfig } from "../../src/stores/postgres/connection.ts"
import { openServer, type ServerOptions, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { Session } from "../../src/stores/postgres/session.ts"
import { pathOf, skipReason, type Tool } from "../support/tools.ts"
import { type PgBouncer, pgbouncerSkip, startPgBouncer } from "./pgbouncer.ts"
import { type Major, postgresTool } from "./postgres-install.ts"
import { PostgresServer, type PostgresServerOptions } from "./postgres-server.ts"

/** The server to test on, or undefined: then the tests start their own. */
const given = process.env.KEELPLANE_TEST_POSTGRES_URL

/** Tests that take one version take the first. */
const MAJORS = [18, 17, 16, 15] as const satisfies readonly Major[]

const tools = new Map<Major, Tool>()
if (given === undefined) for (const major of MAJORS) tools.set(major, await postgresTool(major))

function skipOf(major: Major): string | false {
  return skipReason(tools.get(major) ?? { missing: `there is no PostgreSQL ${major}` })
}

/** A server that suites share: its name for people, why it cannot be had, and where it is. */
export interface SharedServer {
  readonly name: string
  readonly skip: string | false
  url(): Promise<string>
}

/** What is ended after the test file's tests, last first. Hooks made inside hooks would end with them. */
const endings: (() => Promise<void>)[] = []
after(async () => {
  const failures: unknown[] = []
  for (const end of endings.reverse()) await end().catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw new AggregateError(failures, "not everything could be ended")
})

/** Does something after the test file's tests. */
export function atEnd(work: () => Promise<void>): void {
  endings.push(work)
}

/** False, or why tests that need a server of their own, to stop and to configure, are skipped. */
export const ownServerSkip: string | false =
  given === undefined ? skipOf(MAJORS[0]) : "the server is not ours to stop (KEELPLANE_TEST_POSTGRES_URL)"

/** Starts a server of the test's own; removed after the test file's tests. */
export async function startPostgres(
  options: PostgresServerOptions = {},
  major: Major = MAJORS[0],
): Promise<PostgresServer> {
  if (given !== undefined) throw new Error("a server is given; tests start none")
  const tool = tools.get(major) ?? (await postgresTool(major))
  const server = await PostgresServer.make(pathOf(tool), options)
  atEnd(() => server.remove())
  return server
}

function shared(major: Major): SharedServer {
  let server: Promise<PostgresServer> | undefined
  return {
    name: `PostgreSQL ${major}`,
    skip: skipOf(major),
    url: async () => {
      server ??= startPostgres({}, major)
      return (await server).url
    },
  }
}

/** The servers that every SQL suite runs on. */
export const postgresServers: readonly SharedServer[] =
  given === undefined ? MAJORS.map(shared) : [{ name: "PostgreSQL", skip: false, url: async () => given }]

let bouncer: Promise<PgBouncer> | undefined

/** PgBouncer in transaction mode in front of the first of {@link postgresServers}. */
export const pooledServer = {
  name: "PgBouncer in transaction mode",
  skip: async (): Promise<string | false> => ownServerSkip || (await pgbouncerSkip()),
  async open(): Promise<SqlEngine> {
    const url = (await postgresServers[0]?.url()) ?? ""
    bouncer ??= startPgBouncer(url).then((started) => {
      atEnd(() => started.stop())
      return started
    })
    const { url: through } = await bouncer
    return serverDatabase(url, (name, own) => ({
      url: through(name),
      migrationUrl: own,
      pooler: "transaction",
      max: 4,
    }))
  },
}

/** A fresh, migrated database on the server, dropped when it is closed. `through` says where else it can be reached. */
export async function serverDatabase(
  url: string,
  through: (name: string, url: string) => ServerOptions = (_, own) => ({ url: own }),
): Promise<SqlEngine> {
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administer(url, `create database ${name}`)
  const own = new URL(url)
  own.pathname = `/${name}`
  const engine = await openServer({ max: 4, ...through(name, own.href) })
  await engine.migrate()
  return {
    ...engine,
    close: async () => {
      await engine.close()
      await administer(url, `drop database ${name} with (force)`)
    },
  }
}

/** What the login of `url` sees: the rows of one query, on a connection of its own. */
export async function ask(url: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const session = await Session.connect(await connectionConfig(url))
  try {
    const [result] = await session.run([{ name: "", text, values: [] }])
    return result?.rows ?? []
  } finally {
    await session.close()
  }
}

/** Runs commands on a server as the login of `url`. */
export async function administer(url: string, ...commands: readonly string[]): Promise<void> {
  const session = await Session.connect(await connectionConfig(url))
  try {
    for (const command of commands) await session.script(command)
  } finally {
    await session.close()
  }
}
