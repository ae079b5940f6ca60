/** Makes the cluster template; the build calls it. */
import { rmSync } from "node:fs"
import { mkdtemp, open } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { packCluster } from "./cluster-template.ts"
import { encode } from "./exchange.ts"
import { migrate, readMigrations } from "./migrate.ts"
import { PgliteStream } from "./pglite-stream.ts"
import { Session } from "./session.ts"

/** Where pg_control keeps the state of the cluster, and the value for one that was shut down in order. */
const CONTROL_STATE_OFFSET = 16
const CONTROL_SHUT_DOWN = 1

/** What every cluster made from the template would share with all others. */
const SECRETS = `select (select count(*) from keelplane.platform_settings)::int as settings,
  (select count(*) from pg_authid where rolpassword is not null)::int as passwords`

/**
 * Nobody makes databases from the databases of that purpose: they are two thirds of the files, and, as they cannot be vacuumed
 * over the one connection, what would one day run out of transaction ids. A new log begins behind what it took to get here.
 */
const SHRINK = [
  "alter database template0 is_template false",
  "alter database template1 is_template false",
  "drop database template0",
  "drop database template1",
  "checkpoint",
  "select pg_switch_wal()",
  "checkpoint",
]

/**
 * A freshly initialised, migrated and orderly closed cluster, packed for `readClusterTemplate`. Takes some seconds, 60 MB in
 * the system's temporary directory and, for a moment, 1 GB of memory.
 */
export async function makeClusterTemplate(): Promise<Buffer> {
  const root = await mkdtemp(join(tmpdir(), "keelplane-cluster-"))
  // For a caller who is told to leave and cannot wait.
  const remove = () => rmSync(root, { recursive: true, force: true })
  process.once("exit", remove)
  try {
    const directory = join(root, "postgres")
    await makeCluster(directory)
    await assertShutDown(directory)
    return await packCluster(directory)
  } finally {
    process.off("exit", remove)
    remove()
  }
}

async function makeCluster(directory: string): Promise<void> {
  // A log segment that is over is removed, not kept for later: it would be most of the template.
  const settings = { wal_level: "minimal", max_wal_senders: "0", wal_recycle: "off" }
  const stream = new PgliteStream({ directory, fsync: false, settings })
  const session = await Session.connect({
    stream: () => stream,
    user: "postgres",
    database: "postgres",
    ssl: false,
  })
  await migrate(session, await readMigrations())
  const [secrets] = await session.run([encode({ text: SECRETS })])
  const { settings: shared, passwords } = secrets?.rows[0] ?? {}
  if (shared !== 0 || passwords !== 0)
    throw new Error("a migrated cluster holds secrets; it must not be shared")
  for (const statement of SHRINK) await session.script(statement)
  const closed = new Promise((resolve) => stream.once("close", resolve))
  await session.close()
  await closed
}

/** A cluster that was not closed in order would be recovered at each first start. */
async function assertShutDown(directory: string): Promise<void> {
  const file = await open(join(directory, "global", "pg_control"))
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, CONTROL_STATE_OFFSET)
    const state = buffer.readUInt32LE(0)
    if (state !== CONTROL_SHUT_DOWN) throw new Error(`the new cluster was not shut down: state ${state}`)
  } finally {
    await file.close()
  }
}
