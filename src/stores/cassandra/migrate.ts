/**
 * Versioned CQL files, applied once and in order; checksums tell when one was edited. CQL has no transactions: every statement
 * is one that may run again, and a lock with an expiry keeps other daemons away meanwhile.
 */
import { createHash, randomUUID } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import type cassandra from "cassandra-driver"
import { DomainError } from "../../domain/kernel/errors.ts"
import { pause } from "../../domain/kernel/pause.ts"
import {
  type AppliedMigration,
  type MigrationStatus,
  migrationStatuses,
  pendingMigrations,
} from "../migration-log.ts"

export type { MigrationStatus } from "../migration-log.ts"

/** One migration file: `NNNN_name.cql`. */
export interface MigrationFile {
  readonly version: number
  readonly name: string
  readonly statements: readonly string[]
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

const LOCK_S = 120
const LOCK_POLL_MS = 250
const LOCK_WAIT_MS = 300_000
/** A change of the schema takes as long as its nodes take to agree. */
const STATEMENT_MS = 60_000
const QUICK = { prepare: false, readTimeout: STATEMENT_MS }

/** Reads the migrations in `directory`, ordered by version. Throws on a file name or version that cannot be right. */
export async function readMigrations(directory: URL = MIGRATIONS): Promise<readonly MigrationFile[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith(".cql")).sort()
  const migrations = await Promise.all(
    files.map(async (file) => {
      const match = /^(\d{4})_([a-z0-9_]+)\.cql$/.exec(file)
      if (match === null) throw new Error(`${file} is not named NNNN_subject.cql`)
      const text = await readFile(new URL(file, directory), "utf8")
      const checksum = createHash("sha256").update(text).digest("hex")
      return { version: Number(match[1]), name: match[2] ?? "", statements: statementsOf(text), checksum }
    }),
  )
  for (const [index, { version }] of migrations.entries()) {
    if (migrations[index - 1]?.version === version) throw new Error(`two migrations have version ${version}`)
  }
  return migrations
}

/** A statement ends with a semicolon at the end of a line; `--` begins a comment. */
function statementsOf(text: string): readonly string[] {
  return text
    .replace(/--.*$/gm, "")
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "")
}

/**
 * Brings the keyspace of `client` to the version of `migrations`. Throws SCHEMA_MISMATCH when the keyspace has a migration that is
 * unknown here (it is newer) or whose file was edited since, STORE_UNAVAILABLE when nodes do not agree on the schema.
 * @returns the migrations that were applied, or would be with dryRun.
 */
export async function migrate(
  client: cassandra.Client,
  migrations: readonly MigrationFile[],
  options: MigrateOptions = {},
): Promise<readonly MigrationFile[]> {
  const todo = pendingMigrations("keyspace", migrations, await applied(client))
  if (options.dryRun === true || todo.length === 0) return todo
  for (const statement of BOOKKEEPING) await change(client, statement)
  return changeSchema(client, async (run) => {
    const left = pendingMigrations("keyspace", migrations, await applied(client))
    for (const migration of left) {
      options.onApply?.(migration)
      await apply(client, migration, run)
    }
    return left
  })
}

/** Runs one statement that changes the schema, once more where it is run again. */
export type SchemaRun = (statement: string) => Promise<void>

/** Does `work` while no other daemon changes the schema, of which there have to be {@link migrate}'s own tables. */
export async function changeSchema<T>(
  client: cassandra.Client,
  work: (run: SchemaRun) => Promise<T>,
): Promise<T> {
  const owner = randomUUID()
  await lock(client, owner)
  try {
    return await work(async (statement) => {
      await renew(client, owner)
      await change(client, statement)
    })
  } finally {
    await client.execute("delete from schema_lock where name = ? if owner = ?", [LOCK, owner], LOCKING)
  }
}

/** Every migration that is known here, with what the keyspace knows about it. Throws as {@link migrate} does. */
export async function listMigrations(
  client: cassandra.Client,
  migrations: readonly MigrationFile[],
): Promise<readonly MigrationStatus[]> {
  return migrationStatuses("keyspace", migrations, await applied(client))
}

const BOOKKEEPING = [
  "create table if not exists schema_lock (name text primary key, owner text)",
  `create table if not exists schema_migrations (part text, version int, name text, checksum text, applied_at timestamp,
    duration_ms int, primary key (part, version))`,
]
const FOREVER = new AbortController().signal
const SCHEMA = "keelplane"
const LOCK = "migrate"
const LOCKING = { prepare: true, readTimeout: STATEMENT_MS }

async function applied(client: cassandra.Client): Promise<ReadonlyMap<number, AppliedMigration>> {
  const known = await client.execute(
    "select table_name from system_schema.tables where keyspace_name = ? and table_name = 'schema_migrations'",
    [client.keyspace],
    LOCKING,
  )
  if (known.rows.length === 0) return new Map()
  const { rows } = await client.execute(
    `select version, name, checksum, applied_at, duration_ms from schema_migrations where part = '${SCHEMA}'`,
    [],
    QUICK,
  )
  return new Map(
    rows.map((row) => [
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

/** Waits for another daemon that migrates; a lock whose holder died expires. */
async function lock(client: cassandra.Client, owner: string): Promise<void> {
  const until = Date.now() + LOCK_WAIT_MS
  const take = `insert into schema_lock (name, owner) values (?, ?) if not exists using ttl ${LOCK_S}`
  for (;;) {
    if ((await client.execute(take, [LOCK, owner], LOCKING)).wasApplied()) return
    if (Date.now() > until) {
      throw new DomainError(
        "STORE_UNAVAILABLE",
        "another daemon has been changing the schema for minutes; try again",
        {
          metadata: { store: "cassandra" },
          retryDelayMs: LOCK_POLL_MS,
        },
      )
    }
    await pause(LOCK_POLL_MS, FOREVER)
  }
}

/** Fails where the lock has expired under our feet. */
async function renew(client: cassandra.Client, owner: string): Promise<void> {
  const keep = `update schema_lock using ttl ${LOCK_S} set owner = ? where name = ? if owner = ?`
  if ((await client.execute(keep, [owner, LOCK, owner], LOCKING)).wasApplied()) return
  throw new DomainError("STORE_UNAVAILABLE", "the lock of the schema was lost; run the migration again", {
    metadata: { store: "cassandra" },
  })
}

async function apply(client: cassandra.Client, migration: MigrationFile, run: SchemaRun): Promise<void> {
  const { version, name, statements, checksum } = migration
  const start = performance.now()
  for (const statement of statements) await run(statement)
  await client.execute(
    `insert into schema_migrations (part, version, name, checksum, applied_at, duration_ms) values ('${SCHEMA}', ?, ?, ?, ?, ?)`,
    [version, name, checksum, new Date(), Math.round(performance.now() - start)],
    LOCKING,
  )
}

/** Runs a statement and waits until all nodes that are up have the same schema. */
async function change(client: cassandra.Client, statement: string): Promise<void> {
  const result = await client.execute(statement, [], QUICK)
  // The driver has waited for it, and its types do not know what it found.
  if ("isSchemaInAgreement" in result.info && result.info.isSchemaInAgreement === false) {
    throw new DomainError("STORE_UNAVAILABLE", "the cluster's nodes do not agree on the schema; try again", {
      metadata: { store: "cassandra" },
    })
  }
}
