/** What bootstrap gets: a database with its life around it. */
import { type CallScope, systemScope } from "../../domain/kernel/scope.ts"
import type { Capabilities } from "./capabilities.ts"
import type { Database } from "./database.ts"
import { toDomainError } from "./errors.ts"
import type { Maintenance } from "./memory-index-build.ts"
import {
  listMigrations,
  type MigrateOptions,
  type MigrationFile,
  type MigrationStatus,
  migrate,
  readMigrations,
} from "./migrate.ts"
import { dropOutboxDays, ensurePartitions } from "./partitions.ts"
import type { Pool, PoolStats } from "./pool.ts"
import type { Session } from "./session.ts"
import { type VacuumStep, vacuumStep } from "./vacuum.ts"

/** An open PGlite or PostgreSQL server. Call {@link SqlEngine.migrate} before anything uses {@link SqlEngine.database}. */
export interface SqlEngine {
  readonly database: Database
  readonly capabilities: Capabilities
  /** Why a new embedded database had to be made by initdb, which takes seconds; undefined when it was not. For the log. */
  readonly initdb?: string | undefined
  /** Brings the schema up to date; rejects with SCHEMA_MISMATCH. Answers what was applied, or would be with dryRun. */
  migrate(options?: MigrateOptions): Promise<readonly MigrationFile[]>
  /** All migrations with the time they were applied; rejects with SCHEMA_MISMATCH. */
  listMigrations(): Promise<readonly MigrationStatus[]>
  /** One round trip to the store. Rejects with DomainError. */
  ping(scope: CallScope): Promise<void>
  stats(): PoolStats
  /** For work that must not hold up writers; undefined on PGlite, whose one connection everything waits for. Rejects with DomainError. */
  readonly maintenance: Maintenance | undefined
  /** For reads of one moment and work on what belongs to the schema. On PGlite everything else waits. Rejects with DomainError. */
  readonly asOwner: Maintenance
  /**
   * One bounded step of upkeep, for a sweeper: makes partitions ahead of their time, drops days of the outbox that are over, and
   * vacuums where the engine does not do that by itself.
   */
  vacuum(): Promise<VacuumStep>
  /** Ends all connections after the work in flight; the embedded database is closed in order. */
  close(): Promise<void>
}

/** The parts that differ between engines. */
export interface EngineParts {
  readonly database: Database
  readonly pool: Pool
  readonly capabilities: Capabilities
  /** Runs `work` on a connection whose role owns the schema. */
  asOwner<T>(work: (session: Session) => Promise<T>): Promise<T>
  /** Called after the pool is closed. */
  onClose(): Promise<void>
}

/** Puts an engine together. */
export function createEngine({ database, pool, capabilities, asOwner, onClose }: EngineParts): SqlEngine {
  const owned = async <T>(work: (session: Session) => Promise<T>) => {
    try {
      return await asOwner(work)
    } catch (error) {
      throw toDomainError(error, { commits: false, sent: true })
    }
  }
  return {
    database,
    capabilities,
    migrate: (options) => owned(async (session) => migrate(session, await readMigrations(), options)),
    listMigrations: () => owned(async (session) => listMigrations(session, await readMigrations())),
    ping: async (scope) => {
      await database.query(scope, { name: "kp_ping", text: "select 1" })
    },
    stats: () => pool.stats(),
    maintenance: capabilities.engine === "pglite" ? undefined : owned,
    asOwner: owned,
    vacuum: async () => {
      await ensurePartitions(database, systemScope(), Date.now())
      await dropOutboxDays(database, systemScope(), Date.now())
      return capabilities.engine === "pglite" ? owned(vacuumStep) : { removed: 0, more: false }
    },
    close: async () => {
      await pool.close()
      await onClose()
    },
  }
}
