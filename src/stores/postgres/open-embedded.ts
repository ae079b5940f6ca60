/** PGlite under the data directory, or in memory. */
import { once } from "node:events"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { systemScope } from "../../domain/kernel/scope.ts"
import { PGLITE_CAPABILITIES } from "./capabilities.ts"
import { CLUSTER_TEMPLATE } from "./cluster-template.ts"
import { lockDataDir } from "./data-dir-lock.ts"
import { type DatabaseDirectory, prepareDirectory } from "./database-directory.ts"
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
  /**
   * The file that a new directory is made from where it fits: a cluster with all migrations. Default: the one that came with
   * the build. `none` makes it with initdb, without migrations, which takes seconds.
   */
  readonly clusterTemplate?: URL | "none"
}

/** The embedded engine. */
export interface EmbeddedEngine extends SqlEngine {
  /** The whole database as a tar, for {@link EmbeddedOptions.template}. Nothing else may be running. */
  dump(): Promise<Uint8Array<ArrayBuffer>>
}

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
  let initdb: string | undefined
  const connect = async () => {
    const directory = await directoryFor(options)
    initdb = directory?.initdb
    const opened = new PgliteStream({ directory: directory?.path, template, fsync, settings: SETTINGS })
    const session = await Session.connect({
      stream: () => opened,
      user: "postgres",
      database: "postgres",
      ssl: false,
    })
    await directory?.ready(session).catch(async (error: unknown) => {
      session.destroy()
      // The next attempt removes the files that the thread still has open.
      if (!opened.closed) await once(opened, "close")
      throw error
    })
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
    initdb,
    dump: () =>
      asOwner(async () => {
        if (stream === undefined) throw new Error("not open")
        return stream.dump()
      }),
  }
}

function directoryFor({
  dataDir,
  template,
  clusterTemplate,
}: EmbeddedOptions): Promise<DatabaseDirectory> | undefined {
  if (dataDir === undefined) return undefined
  const none = template !== undefined || clusterTemplate === "none"
  return prepareDirectory(dataDir, none ? undefined : (clusterTemplate ?? CLUSTER_TEMPLATE))
}
