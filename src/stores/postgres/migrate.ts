/** Versioned SQL files, applied once, in order, each in a transaction, under a lock; checksums tell when one was edited. */
import { createHash } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import { setTimeout } from "node:timers/promises"
import { DomainError } from "../../domain/kernel/errors.ts"
import {
  type AppliedMigration,
  type MigrationStatus,
  migrationStatuses,
  pendingMigrations,
} from "../migration-log.ts"
import { encode } from "./exchange.ts"
import type { Session } from "./session.ts"

export type { MigrationStatus } from "../migration-log.ts"

/** One migration file: `NNNN_name.sql`. */
export interface MigrationFile {
  readonly version: number
  readonly name: string
  readonly sql: string
  /** SHA-256 of the file, in hex. */
  readonly checksum: string
}

/** How {@link migrate} runs. */
export interface MigrateOptions {
  /** Only tells what would run. */
  readonly dryRun?: boolean
  /** Called before each migration. */
  onApply?(migration: MigrationFile): void
}

/** Where this version's migrations lie; the build copies them beside the compiled files. */
export const MIGRATIONS = new URL("./migrations/", import.meta.url)

/** "keelplan" as a number: the advisory lock that one migrating daemon at a time holds. */
const LOCK = 0x6b65656c
const LOCK_POLL_MS = 100

/**
 * The first line of a migration that no transaction may hold, such as the build of an index beside writers. Each of its statements
 * ends with a semicolon at the end of a line and may run again after it was cut short.
 */
const ALONE = "-- outside of a transaction\n"

/** Reads the migrations in `directory`, ordered by version. Throws on a file name or version that cannot be right. */
export async function readMigrations(directory: URL = MIGRATIONS): Promise<readonly MigrationFile[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith(".sql")).sort()
  const migrations = await Promise.all(
    files.map(async (file) => {
      const match = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file)
      if (match === null) throw new Error(`${file} is not named NNNN_subject.sql`)
      const sql = await readFile(new URL(file, directory), "utf8")
      const checksum = createHash("sha256").update(sql).digest("hex")
      return { version: Number(match[1]), name: match[2] ?? "", sql, checksum }
    }),
  )
  for (const [index, { version }] of migrations.entries()) {
    if (migrations[index - 1]?.version === version) throw new Error(`two migrations have version ${version}`)
  }
  return migrations
}

/** One digest over all migrations, for caches of migrated databases. */
export function migrationsDigest(migrations: readonly MigrationFile[]): string {
  const hash = createHash("sha256")
  for (const { version, checksum } of migrations) hash.update(`${version}:${checksum}\n`)
  return hash.digest("hex")
}

/**
 * Brings the database to the version of `migrations`, as the session's login role. Throws SCHEMA_MISMATCH when the database
 * has a migration that is unknown here (it is newer) or whose file was edited since.
 * @returns the migrations that were applied, or would be with dryRun.
 */
export async function migrate(
  session: Session,
  migrations: readonly MigrationFile[],
  options: MigrateOptions = {},
): Promise<readonly MigrationFile[]> {
  if (options.dryRun === true) return pendingMigrations("database", migrations, await applied(session))
  // Whoever waits inside of a statement holds a snapshot, and the build of an index would wait for that.
  while (!(await locked(session))) await setTimeout(LOCK_POLL_MS)
  try {
    await session.script(BOOKKEEPING)
    const todo = pendingMigrations("database", migrations, await applied(session))
    for (const migration of todo) {
      options.onApply?.(migration)
      await apply(session, migration)
    }
    return todo
  } finally {
    await session.run([encode({ text: "select pg_advisory_unlock($1)", values: [LOCK] })])
  }
}

/** Every migration that is known here, with what the database knows about it. Throws as {@link migrate} does. */
export async function listMigrations(
  session: Session,
  migrations: readonly MigrationFile[],
): Promise<readonly MigrationStatus[]> {
  return migrationStatuses("database", migrations, await applied(session))
}

async function locked(session: Session): Promise<boolean> {
  const [result] = await session.run([
    encode({ text: "select pg_try_advisory_lock($1) as locked", values: [LOCK] }),
  ])
  return result?.rows[0]?.locked === true
}

const BOOKKEEPING = `create schema if not exists keelplane;
create table if not exists keelplane.schema_migrations (
  version      int         primary key,
  name         text        not null,
  checksum     text        not null,
  applied_at   timestamptz not null default now(),
  duration_ms  int         not null
)`

async function applied(session: Session): Promise<ReadonlyMap<number, AppliedMigration>> {
  const [exists] = await session.run([
    encode({ text: "select to_regclass('keelplane.schema_migrations') is not null as exists" }),
  ])
  if (exists?.rows[0]?.exists !== true) return new Map()
  const [result] = await session.run([
    encode({
      text: "select version, name, checksum, applied_at, duration_ms from keelplane.schema_migrations",
    }),
  ])
  return new Map(
    result?.rows.map((row) => [
      row.version as number,
      {
        name: row.name as string,
        checksum: row.checksum as string,
        appliedAt: row.applied_at as Date,
        durationMs: row.duration_ms as number,
      },
    ]),
  )
}

async function apply(session: Session, migration: MigrationFile): Promise<void> {
  const start = performance.now()
  const alone = migration.sql.startsWith(ALONE)
  const { version, name } = migration
  try {
    if (alone) for (const statement of statementsOf(migration.sql)) await session.script(statement)
    await session.script("begin")
    if (!alone) await session.script(migration.sql)
    await session.run([
      encode({
        text: "insert into keelplane.schema_migrations (version, name, checksum, duration_ms) values ($1, $2, $3, $4)",
        values: [version, name, migration.checksum, Math.round(performance.now() - start)],
      }),
    ])
    await session.script("commit")
  } catch (error) {
    if (session.inTransaction) await session.script("rollback")
    if (!isRefusal(error)) throw error
    const applied = alone ? "it runs again with the next start" : "nothing of it was applied"
    throw new DomainError("SCHEMA_MISMATCH", `migration ${version} (${name}) failed; ${applied}`, {
      metadata: { version: String(version) },
      cause: error,
    })
  }
}

/** Lost races, cancels, a server that stops or is out of something (classes 40, 53, 55, 57): the next try may well succeed. */
const PASSING = /^(40|53|55|57)/

/** Whether the server has said no to what the migration does, rather than nothing, or not now. */
function isRefusal(error: unknown): boolean {
  const code = (error as { readonly code?: unknown } | null)?.code
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) && !PASSING.test(code)
}

function statementsOf(sql: string): readonly string[] {
  return sql.split(/;\n/).filter((statement) => /^\s*[a-z]/im.test(statement.replace(/^--.*$/gm, "")))
}
