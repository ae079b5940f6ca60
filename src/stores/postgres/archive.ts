/** The planes of a tenant in PostgreSQL, as archives read and write them. */
import { PLANES } from "../../domain/archive/model.ts"
import type { Archive, ImportMarks } from "../../domain/archive/ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { AUDIT_TOPIC } from "../../domain/outbox/audit-relay.ts"
import { readItems, tableQuery } from "./archive-read.ts"
import { ARCHIVE_TABLES, type TableKind } from "./archive-tables.ts"
import { writeItems } from "./archive-write.ts"
import type { Database } from "./database.ts"
import type { SqlEngine } from "./engine.ts"
import { platformScope } from "./platform-scope.ts"

/** A plane all of whose kinds are tables. */
export type TablePlane = "streams" | "sessions" | "audit" | "configs" | "jobs" | "control"

/** The archive of a plane in `engine`. */
export function createSqlArchive(
  engine: Pick<SqlEngine, "database" | "capabilities" | "asOwner">,
  plane: TablePlane,
  clock: Clock = systemClock,
): Archive {
  const { database } = engine
  const kinds: readonly TableKind[] = PLANES[plane]
  return {
    plane,
    engine: engine.capabilities.engine,
    kinds,
    holds: (scope) => hasRows(database, scope, kinds.filter((kind) => kind !== "tenant").map(tableName)),
    unfinished: (scope) => (plane === "control" ? unfinishedWork(database, scope) : Promise.resolve([])),
    read: (scope, sink) => {
      const now = new Date(clock.now())
      const queries = kinds.map((kind) => tableQuery(kind, scope, now))
      return engine.asOwner((session) => readItems(session, scope, queries, sink))
    },
    write: (scope, kind, items) => writeItems(database, scope, requireTable(kind), items),
    finish: async () => [],
  }
}

function tableName(kind: TableKind): string {
  return ARCHIVE_TABLES[kind].name
}

function requireTable(kind: string): TableKind {
  if (!Object.hasOwn(ARCHIVE_TABLES, kind)) throw new Error(`no table has items of kind ${kind}`)
  // The line above has looked.
  return kind as TableKind
}

/** Whether any of the tables has a row of the scope's tenant. */
export async function hasRows(
  database: Database,
  scope: CallScope,
  tables: readonly string[],
): Promise<boolean> {
  const checks = tables.map((table) => `exists (select from ${table} where tenant = $1)`)
  const { rows } = await database.query<{ held: boolean }>(scope, {
    text: `select ${checks.join(" or ")} as held`,
    values: [scope.tenant],
  })
  return rows[0]?.held === true
}

/** Flows that are not over, and audit records that the outbox has not brought to their log. */
async function unfinishedWork(database: Database, scope: CallScope): Promise<readonly string[]> {
  const { rows } = await database.query<{ flows: number; records: number }>(scope, {
    text: `select
      (select count(*)::int from sagas where tenant = $1 and state in ('running', 'compensating', 'stuck')) as flows,
      (select count(*)::int from outbox where tenant = $1 and topic = $2) as records`,
    values: [scope.tenant, AUDIT_TOPIC],
  })
  const { flows = 0, records = 0 } = rows[0] ?? {}
  return [
    ...(flows > 0 ? [`${flows} flows that are not over`] : []),
    ...(records > 0 ? [`${records} audit records on their way to the log`] : []),
  ]
}

/** Marks of imports among the platform's settings. */
export function createImportMarks(database: Database): ImportMarks {
  const keyOf = (scope: CallScope) => `import:${scope.tenant}`
  const begun = async (scope: CallScope) => {
    const { rows } = await database.query<{ value: Buffer }>(platformScope(scope), {
      text: "select value from platform_settings where tenant = '*' and key = $1",
      values: [keyOf(scope)],
    })
    return rows[0]?.value.toString("utf8")
  }
  return {
    begun,
    begin: async (scope, archive) => {
      await database.query(platformScope(scope), {
        text: "insert into platform_settings (tenant, key, value) values ('*', $1, $2) on conflict do nothing",
        values: [keyOf(scope), Buffer.from(archive)],
      })
      const other = await begun(scope)
      if (other === archive) return
      throw new DomainError(
        "FAILED_PRECONDITION",
        `the import of another archive (${other}) into tenant "${scope.tenant}" was interrupted; repeat that one first`,
        { metadata: { resource: "tenant", name: scope.tenant, state: "import-interrupted" } },
      )
    },
    end: async (scope) => {
      await database.query(platformScope(scope), {
        text: "delete from platform_settings where tenant = '*' and key = $1",
        values: [keyOf(scope)],
      })
    },
  }
}
