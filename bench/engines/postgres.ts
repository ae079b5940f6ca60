/** PostgreSQL with pgvector: events and vectors. Commits wait for the disk, as they do in production. */
import { randomUUID } from "node:crypto"
import pg from "pg"
import { postgresTool } from "../../test/engines/postgres-install.ts"
import { PostgresServer } from "../../test/engines/postgres-server.ts"
import { pathOf } from "../../test/support/tools.ts"
import type { Engine } from "./engine.ts"
import { appends } from "./events.ts"
import { prepareVectors, vectorWorks } from "./records.ts"

async function administer(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}

/** See the file's comment. */
export const postgres: Engine = {
  name: "postgres",
  bare: "postgres",
  async start() {
    const given = process.env.KEELPLANE_TEST_POSTGRES_URL
    const server =
      given === undefined
        ? await PostgresServer.make(pathOf(await postgresTool(18)), { fsync: true })
        : undefined
    const root = server?.url ?? given ?? ""
    const name = `keelplane_bench_${randomUUID().slice(0, 8)}`
    await administer(root, `create database ${name}`)
    const own = new URL(root)
    own.pathname = `/${name}`
    const url = own.href
    return {
      url,
      env: Object.fromEntries(
        ["MEMORY", "EVENTS", "CONTROL"].map((store) => [`KEELPLANE_STORES__${store}__URL`, url]),
      ),
      prepare: (channel) => prepareVectors(channel, "local"),
      works: [...appends(), ...vectorWorks(false)],
      stop: async () => {
        if (server === undefined) await administer(root, `drop database ${name} with (force)`)
        else await server.remove()
      },
    }
  },
}
