/** What an engine can and cannot do, as data. */

/** See the fields. */
export interface Capabilities {
  /** `pglite` or `postgresql`. */
  readonly engine: "pglite" | "postgresql"
  /** Most statements that run at the same time. */
  readonly concurrency: number
  /** Whether a running statement can be stopped. Where not, its caller is answered and it ends by itself. */
  readonly cancel: boolean
  /** Whether other processes can use the same database at the same time. */
  readonly shared: boolean
}

/** PGlite: one connection, one process. */
export const PGLITE_CAPABILITIES: Capabilities = {
  engine: "pglite",
  concurrency: 1,
  cancel: false,
  shared: false,
}

/** A server with `concurrency` connections. */
export function postgresCapabilities(concurrency: number): Capabilities {
  return { engine: "postgresql", concurrency, cancel: true, shared: true }
}
