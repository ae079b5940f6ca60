/** The SQL engines, for bootstrap, and what adapters beside them use. */
export type { Capabilities } from "./capabilities.ts"
export { type DataDirLock, lockDataDir } from "./data-dir-lock.ts"
export type { Database, Rows, Statement, Tx } from "./database.ts"
export type { SqlEngine } from "./engine.ts"
export { sweepIdempotency } from "./idempotency.ts"
export type { MigrateOptions, MigrationFile, MigrationStatus } from "./migrate.ts"
export { type EmbeddedEngine, type EmbeddedOptions, openEmbedded } from "./open-embedded.ts"
export { assertIsolation } from "./tenancy.ts"
