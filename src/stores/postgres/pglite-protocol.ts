/** What the main thread and the PGlite thread say to each other. */

/** How the thread opens its database; passed as workerData. */
export interface PgliteWorkerOptions {
  /** Where the database lives; undefined keeps it in memory. */
  readonly directory?: string | undefined
  /** A dump to begin with instead of an empty database; only where none exists yet. */
  readonly template?: Uint8Array<ArrayBuffer> | undefined
  /** Whether a commit waits for the disk, so that it survives a power cut and not only a killed process. */
  readonly fsync: boolean
  /** PostgreSQL settings. */
  readonly settings: Readonly<Record<string, string>>
}

/** Protocol bytes, or an order: `dump` the whole database, `close` it and end the thread. */
export type ToWorker = Uint8Array<ArrayBuffer> | "dump" | "close"

/** Open; or protocol bytes; or the answer to `dump`. */
export type FromWorker = "ready" | Uint8Array<ArrayBuffer> | { readonly dump: Uint8Array<ArrayBuffer> }
