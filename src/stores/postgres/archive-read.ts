/** Reading a tenant's rows as of one moment, a few megabytes at a time. */
import { baseType, type FieldType, fieldsOf, type Item, type Kind } from "../../domain/archive/model.ts"
import type { ItemSink } from "../../domain/archive/ports.ts"
import { type CallScope, PLATFORM_TENANT } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { ARCHIVE_TABLES, type ArchiveTable, columnOf, type TableKind } from "./archive-tables.ts"
import { type EncodedStatement, encode } from "./exchange.ts"
import type { Session } from "./session.ts"
import { APP_ROLE } from "./session-settings.ts"

/** A query of items. `text` has everything but the limit; its columns are called as the fields are. */
export interface ItemQuery {
  readonly kind: Kind
  readonly text: string
  /** Answers the bytes of the largest row, in `largest`; undefined where all are small. */
  readonly largest?: string | undefined
  readonly values: readonly unknown[]
  /** The tenant that row-level security is told, where it is not the scope's. */
  readonly as?: string
}

const PAGE_BYTES = 4_194_304
const ROW_BYTES = 1_024
const PAGE_ROWS = 1_000

/**
 * Runs queries one after the other in one transaction that sees one moment, as the daemon's own role. A planner without
 * statistics is kept from sorting what an index has in order.
 */
export async function readItems(
  session: Session,
  scope: CallScope,
  queries: readonly ItemQuery[],
  sink: ItemSink,
): Promise<void> {
  await session.script("begin isolation level repeatable read read only")
  try {
    await session.script(`set local role ${APP_ROLE}; set local enable_seqscan = off; set local enable_sort = off;
      set local enable_bitmapscan = off`)
    for (const query of queries) await readOne(session, scope, query, sink)
  } finally {
    await session.script("rollback")
  }
}

async function readOne(session: Session, scope: CallScope, query: ItemQuery, sink: ItemSink): Promise<void> {
  const { kind, text, largest, values, as = scope.tenant } = query
  const statement = (sql: string, parameters: readonly unknown[] = []): EncodedStatement =>
    encode({ text: sql, values: parameters })
  await session.run([statement("select set_config('keelplane.tenant', $1, true)", [as])])
  let rows = PAGE_ROWS
  if (largest !== undefined) {
    const [found] = await session.run([statement(largest, values)])
    const bytes = Number(found?.rows[0]?.largest ?? 0) + ROW_BYTES
    rows = Math.max(1, Math.min(PAGE_ROWS, Math.floor(PAGE_BYTES / bytes)))
  }
  await session.run([statement(`declare archive no scroll cursor for ${text}`, values)])
  for (;;) {
    requireLive(scope)
    const [page] = await session.run([statement(`fetch ${rows} from archive`)])
    const found = page?.rows ?? []
    if (found.length > 0)
      await sink(
        kind,
        found.map((row) => itemOf(kind, row)),
      )
    if (found.length < rows) break
  }
  await session.run([statement("close archive")])
}

/** What reads all items of a kind that is a table. */
export function tableQuery(kind: TableKind, scope: CallScope, now: Date): ItemQuery {
  const table: ArchiveTable = ARCHIVE_TABLES[kind]
  const columns = fieldsOf(kind).map(
    ([field]) => `${table.read?.[field] ?? `j.${columnOf(table, field)}`} as "${field}"`,
  )
  const platform = kind === "tenant"
  // Each statement names every parameter, or the server would not know their types.
  const known = `j.tenant = $1::text and $2::timestamptz is not null and $3::text is not null`
  const from = `from ${table.name} j where ${known}${table.where === undefined ? "" : ` and ${table.where}`}`
  return {
    kind,
    text: `select ${columns.join(", ")} ${from} order by ${table.order}`,
    largest: table.bytes === undefined ? undefined : `select max(${table.bytes}) as largest ${from}`,
    values: [platform ? PLATFORM_TENANT : scope.tenant, now, scope.tenant],
    ...(platform ? { as: PLATFORM_TENANT } : {}),
  }
}

function itemOf(kind: Kind, row: Readonly<Record<string, unknown>>): Item {
  return Object.fromEntries(fieldsOf(kind).map(([field, type]) => [field, plain(type, row[field])]))
}

function plain(type: FieldType, value: unknown): unknown {
  if (value === null || value === undefined) return null
  return baseType(type).base === "time" ? (value as Date).getTime() : value
}
