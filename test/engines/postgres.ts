/**
 * A PostgreSQL server for tests, when KEELPLANE_TEST_POSTGRES_URL names one (a login that may create databases, pgvector
 * installed). Each call works in a database of its own and drops it at close.
 */
import { randomUUID } from "node:crypto"
import { openServer, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { Session } from "../../src/stores/postgres/session.ts"

/** The server to test on, or undefined. */
export const postgresUrl = process.env.KEELPLANE_TEST_POSTGRES_URL

/** A fresh, migrated database on the server. */
export async function serverDatabase(url: string): Promise<SqlEngine> {
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administer(url, `create database ${name}`)
  const own = new URL(url)
  own.pathname = `/${name}`
  const engine = await openServer({ url: own.href, max: 4 })
  await engine.migrate()
  return {
    ...engine,
    close: async () => {
      await engine.close()
      await administer(url, `drop database ${name} with (force)`)
    },
  }
}

async function administer(url: string, command: string): Promise<void> {
  const session = await Session.connect({ connectionString: url })
  try {
    await session.script(command)
  } finally {
    await session.close()
  }
}
