/** The folder of the embedded database: made once, completely, or made anew. */
import { mkdir, open, readdir, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { readClusterTemplate, writeCluster } from "./cluster-template.ts"
import { encode } from "./exchange.ts"
import type { Session } from "./session.ts"

const FILES_AT_ONCE = 32

/** A folder to open a database in. */
export interface DatabaseDirectory {
  readonly path: string
  /** Why it is left to initdb to fill it; undefined when it is filled. */
  readonly initdb: string | undefined
  /** To be called with the first connection: from now on the database is kept. */
  ready(session: Session): Promise<void>
}

/**
 * A database whose first start was cut short is half a database that nobody was ever told about: a marker beside it tells,
 * and it is made anew. A new one comes from the cluster template where that fits.
 * @param template undefined leaves a new one empty.
 */
export async function prepareDirectory(
  dataDir: string,
  template: URL | undefined,
): Promise<DatabaseDirectory> {
  const path = join(dataDir, "postgres")
  const marker = join(dataDir, "postgres.initialising")
  const exists = await isThere(path)
  const fresh = !exists || (await isThere(marker))
  if (!fresh) return { path, initdb: undefined, ready: async () => {} }
  await writeFile(marker, "The first start of this database is under way, or was cut short.\n", {
    mode: 0o600,
    flush: true,
  })
  await syncPath(dataDir)
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { mode: 0o700 })
  const cluster =
    template === undefined ? "the cluster template is not wanted" : await readClusterTemplate(template)
  const unpacked = typeof cluster !== "string"
  if (unpacked) await writeCluster(cluster, path)
  // While PGlite opens it: what that writes, it brings to the disk itself.
  const synced = unpacked ? syncTree(path) : undefined
  synced?.catch(() => {})
  const ready = async (session: Session) => {
    if (unpacked) await session.run([encode({ text: APPLIED_NOW })])
    await (synced ?? syncTree(path))
    await rm(marker)
    // Should the marker come back after a power cut, it would take a database with it that has been written to.
    await syncPath(dataDir)
  }
  return { path, initdb: unpacked ? undefined : cluster, ready }
}

/** To this database the migrations come now, whenever the template was made. */
const APPLIED_NOW = "update keelplane.schema_migrations set applied_at = now(), duration_ms = 0"

/** PostgreSQL trusts its first files to be on the disk, but neither PGlite nor the template waits for it. */
async function syncTree(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true })
  const paths = entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name))
  paths.push(path)
  while (paths.length > 0) await Promise.all(paths.splice(-FILES_AT_ONCE).map(syncPath))
}

/** What is gone meanwhile, such as a lock file of PostgreSQL's, needs no disk. */
async function syncPath(path: string): Promise<void> {
  const file = await open(path, "r").catch(ifThere)
  if (file === undefined) return
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(ifThere)) !== undefined
}

function ifThere(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error
}
