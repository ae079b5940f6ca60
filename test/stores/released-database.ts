/** Databases at the schema of the first release, with its rows, on each SQL engine. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { openEmbedded, openServer, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { migrate, readMigrations } from "../../src/stores/postgres/migrate.ts"
import { administer, postgresServers } from "../engines/postgres.ts"
import { FIRST_RELEASE, insertReleasedRows } from "./released-rows.ts"

/** An engine that can have such a database. */
export interface ReleasedEngine {
  readonly name: string
  readonly skip: string | false
  /** An empty database, without any schema. */
  open(): Promise<SqlEngine>
}

/** PGlite and every server that tests have. */
export const releasedEngines: readonly ReleasedEngine[] = [
  { name: "PGlite", skip: false, open: () => openEmbedded({ fsync: false }) },
  ...postgresServers.map(({ name, skip, url }) => ({
    name,
    skip,
    open: async () => bareDatabase(await url()),
  })),
]

/** Brings an empty database to the first release and fills it. */
export async function firstRelease(engine: SqlEngine): Promise<void> {
  const known = await readMigrations()
  const files = known.filter(({ version, checksum }) => checksum.startsWith(FIRST_RELEASE[version] ?? "none"))
  assert.equal(
    files.length,
    Object.keys(FIRST_RELEASE).length,
    "a migration that was released must not change",
  )
  await engine.asOwner(async (session) => {
    await migrate(session, files)
    await insertReleasedRows(session)
  })
}

async function bareDatabase(server: string): Promise<SqlEngine> {
  const name = `keelplane_test_${randomUUID().replaceAll("-", "")}`
  await administer(server, `create database ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  const engine = await openServer({ max: 4, url: url.href })
  return {
    ...engine,
    close: async () => {
      await engine.close()
      await administer(server, `drop database ${name} with (force)`)
    },
  }
}
