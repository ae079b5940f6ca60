/** Runs suites on PGlite and on every PostgreSQL server that tests have. */
import { after, describe } from "node:test"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { embeddedDatabase } from "./pglite.ts"
import { pooledServer, postgresServers, serverDatabase } from "./postgres.ts"

/** A clock that stands still until it is told to move. */
export function heldClock(): { now(): number; advance(ms: number): void } {
  let now = Date.now()
  return {
    now: () => now,
    advance: (ms) => {
      now += ms
    },
  }
}

/** An engine that suites run on. */
interface Candidate {
  readonly name: string
  readonly skip: string | false
  open(): Promise<SqlEngine>
}

/** Every SQL engine; each `open` makes a fresh, migrated database. */
export const sqlEngines: readonly Candidate[] = [
  { name: "PGlite", skip: false, open: () => embeddedDatabase() },
  ...postgresServers.map(({ name, skip, url }) => ({
    name,
    skip,
    open: async () => serverDatabase(await url()),
  })),
]

/** The same, and a server behind a pooler: for suites that show how statements and transactions travel. */
export async function sqlEnginesAndPooler(): Promise<readonly Candidate[]> {
  const { name, open } = pooledServer
  return [...sqlEngines, { name, skip: await pooledServer.skip(), open }]
}

/** Registers what `register` registers once per engine; the engine opens with its first use and closes at the end. */
export function onSqlEngines(
  register: (open: () => Promise<SqlEngine>) => void,
  engines: readonly Candidate[] = sqlEngines,
): void {
  for (const { name, skip, open } of engines) {
    describe(`on ${name}`, { timeout: 600_000, skip }, () => {
      let engine: Promise<SqlEngine> | undefined
      after(async () => (await engine)?.close())
      register(() => {
        engine ??= open()
        return engine
      })
    })
  }
}
