/** PGlite under the data directory, or in memory. */
import { mkdir, open, readdir, rm, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { systemScope } from "../../domain/kernel/scope.ts"
import { PGLITE_CAPABILITIES } from "./capabilities.ts"
import { lockDataDir } from "./data-dir-lock.ts"
import { createEngine, type SqlEngine } from "./engine.ts"
import { PgliteStream } from "./pglite-stream.ts"
import { Pool } from "./pool.ts"
import { PooledDatabase } from "./pooled-database.ts"
import { Session } from "./session.ts"

/** How {@link openEmbedded} opens. */
export interface EmbeddedOptions {
  /** The daemon's data directory, made with mode 0700 and locked. Undefined keeps everything in memory, for tests. */
  readonly dataDir?: string | undefined
  /** For the expiry of idempotency records. */
  readonly clock?: Clock
  /** Most calls that wait for the one connection; more are shed with OVERLOADED. Default 4096. */
  readonly maxWaiting?: number
  /** Whether commits reach the disk before they are answered. Default true; false survives a killed process only. */
  readonly fsync?: boolean
  /** A dump to begin with, see {@link EmbeddedEngine.dump}; only in memory or for a new directory. */
  readonly template?: Uint8Array<ArrayBuffer> | undefined
}

/** The embedded engine. */
export interface EmbeddedEngine extends SqlEngine {
  /** The whole database as a tar, for {@link EmbeddedOptions.template}. Nothing else may be running. */
  dump(): Promise<Uint8Array<ArrayBuffer>>
}

const FILES_AT_ONCE = 32

const SETTINGS: Readonly<Record<string, string>> = {
  synchronous_commit: "on",
  shared_buffers: "64MB",
  maintenance_work_mem: "128MB",
  // fdatasync does nothing in WebAssembly; fsync reaches the disk through the thread's file system.
  wal_sync_method: "fsync",
  // One connection: nothing can be blocked by a lock for long, and nothing replicates.
  wal_level: "minimal",
  max_wal_senders: "0",
  max_wal_size: "256MB",
  log_min_messages: "fatal",
}

/**
 * Opens PGlite in a thread of its own. Rejects with FAILED_PRECONDITION when another daemon has the directory, with
 * STORE_UNAVAILABLE when the database cannot be opened.
 */
export async function openEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedEngine> {
  const { dataDir, fsync = true, template, clock = systemClock } = options
  const lock = dataDir === undefined ? undefined : await lockDataDir(dataDir)
  let stream: PgliteStream | undefined
  const connect = async () => {
    const directory = dataDir === undefined ? undefined : await prepareDirectory(dataDir)
    const opened = new PgliteStream({ directory: directory?.path, template, fsync, settings: SETTINGS })
    const session = await Session.connect({
      stream: () => opened,
      user: "postgres",
      database: "postgres",
      ssl: false,
    })
    await directory?.ready()
    stream = opened
    return session
  }
  const pool = new Pool({
    connect,
    min: 1,
    max: 1,
    maxWaiting: options.maxWaiting ?? 4096,
    idleMs: Number.POSITIVE_INFINITY,
    lifetimeMs: Number.POSITIVE_INFINITY,
    acquireMs: Number.POSITIVE_INFINITY,
  })
  const asOwner = async <T>(work: (session: Session) => Promise<T>) => {
    const session = await pool.acquire(systemScope(), "owner")
    try {
      return await work(session)
    } finally {
      pool.release(session)
    }
  }
  const engine = createEngine({
    database: new PooledDatabase({ pool, clock, cancel: undefined, serverTimeouts: false }),
    pool,
    capabilities: PGLITE_CAPABILITIES,
    asOwner,
    onClose: async () => lock?.release(),
  })
  try {
    await asOwner(async () => {})
  } catch (error) {
    await engine.close()
    throw error
  }
  return {
    ...engine,
    dump: () =>
      asOwner(async () => {
        if (stream === undefined) throw new Error("not open")
        return stream.dump()
      }),
  }
}

interface DatabaseDirectory {
  readonly path: string
  /** To be called when the database is open: from now on it is kept. */
  ready(): Promise<void>
}

/**
 * A database whose first start was cut short is half a database that nobody was ever told about: a marker beside it tells,
 * and it is made anew.
 */
async function prepareDirectory(dataDir: string): Promise<DatabaseDirectory> {
  const path = join(dataDir, "postgres")
  const marker = join(dataDir, "postgres.initialising")
  const exists = await isThere(path)
  const fresh = !exists || (await isThere(marker))
  if (!fresh) return { path, ready: async () => {} }
  await writeFile(marker, "The first start of this database is under way, or was cut short.\n", {
    mode: 0o600,
  })
  await rm(path, { recursive: true, force: true })
  await mkdir(path, { mode: 0o700 })
  const ready = async () => {
    await syncTree(path)
    await rm(marker, { force: true })
  }
  return { path, ready }
}

/** PostgreSQL trusts its first files to be on the disk, but PGlite copies them there without waiting for it. */
async function syncTree(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  while (files.length > 0) await Promise.all(files.splice(-FILES_AT_ONCE).map(syncFile))
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r")
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

async function isThere(path: string): Promise<boolean> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  return found !== undefined
}
