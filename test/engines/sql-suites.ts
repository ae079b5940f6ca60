/** Runs suites on PGlite and, where a URL names one, on a PostgreSQL server too. */
import { after, describe } from "node:test"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { embeddedDatabase } from "./pglite.ts"
import { postgresUrl, serverDatabase } from "./postgres.ts"

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

/** Registers what `register` registers once per engine; the engine opens with its first use and closes at the end. */
export function onSqlEngines(register: (open: () => Promise<SqlEngine>) => void): void {
  const url = postgresUrl
  suite("PGlite", embeddedDatabase, register)
  if (url !== undefined) suite("PostgreSQL", () => serverDatabase(url), register)
}

function suite(
  name: string,
  make: () => Promise<SqlEngine>,
  register: (open: () => Promise<SqlEngine>) => void,
): void {
  describe(`on ${name}`, { timeout: 300_000 }, () => {
    let engine: Promise<SqlEngine> | undefined
    after(async () => (await engine)?.close())
    register(() => {
      engine ??= make()
      return engine
    })
  })
}
