/** What a database has had done to it, held against the migrations that this version knows: the same on every engine with a schema. */
import { DomainError } from "../domain/kernel/errors.ts"

/** What identifies a migration. */
export interface KnownMigration {
  readonly version: number
  readonly name: string
  /** SHA-256 of its file, in hex. */
  readonly checksum: string
}

/** A migration and whether the database has it. */
export interface MigrationStatus extends KnownMigration {
  /** When it was applied; undefined while it is pending. */
  readonly appliedAt?: Date | undefined
  readonly durationMs?: number | undefined
}

/** What the database says of a migration that it has. */
export interface AppliedMigration {
  readonly name: string
  readonly checksum: string
  readonly appliedAt: Date
  readonly durationMs: number
}

/**
 * The migrations that are not applied yet, in their order. Throws SCHEMA_MISMATCH when `place` (`database`, `keyspace`) has one that
 * is unknown here, or one that was edited since.
 */
export function pendingMigrations<M extends KnownMigration>(
  place: string,
  migrations: readonly M[],
  done: ReadonlyMap<number, AppliedMigration>,
): M[] {
  const known = new Map(migrations.map((migration) => [migration.version, migration]))
  for (const [version, { name, checksum }] of done) {
    const migration = known.get(version)
    if (migration === undefined) {
      throw mismatch(
        `the ${place} has migration ${version} (${name}), which this version does not know: it is newer`,
        version,
      )
    }
    if (migration.checksum !== checksum) {
      throw mismatch(
        `migration ${version} (${name}) was changed after it was applied to this ${place}`,
        version,
      )
    }
  }
  return migrations.filter(({ version }) => !done.has(version))
}

/** Every migration that is known here, with what `place` knows about it. Throws as {@link pendingMigrations} does. */
export function migrationStatuses(
  place: string,
  migrations: readonly KnownMigration[],
  done: ReadonlyMap<number, AppliedMigration>,
): readonly MigrationStatus[] {
  pendingMigrations(place, migrations, done)
  return migrations.map(({ version, name, checksum }) => {
    const row = done.get(version)
    return { version, name, checksum, appliedAt: row?.appliedAt, durationMs: row?.durationMs }
  })
}

function mismatch(message: string, version: number): DomainError {
  return new DomainError("SCHEMA_MISMATCH", message, { metadata: { version: String(version) } })
}
