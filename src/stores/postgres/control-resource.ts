/** The SQL that tenants, users, agents and roles share: an id, changeable columns, a revision and two times. */

import type { Stamped } from "../../domain/control/model.ts"
import { alreadyExists, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { Filter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Tx } from "./database.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"

/** A row with the columns that every resource has. */
export interface ResourceRow {
  readonly id: string
  readonly revision: bigint
  readonly create_time: Date
  readonly update_time: Date
}

/** How a resource lies in its table. */
export interface ResourceTable<T, F extends object, R extends ResourceRow> {
  /** Also the resource's kind in errors. */
  readonly kind: string
  /** With its schema. */
  readonly table: string
  /** The column of each field and its value there. */
  readonly columns: { readonly [K in keyof F]: { readonly name: string; write(value: F[K]): unknown } }
  readonly read: (row: R) => Omit<T, keyof Stamped | "id">
  /** Fields of the filter language besides those that every resource has. */
  readonly filter: FilterColumns
}

/** The filter columns of every resource. */
const COMMON_FILTER: FilterColumns = {
  create_time: { sql: "create_time" },
  update_time: { sql: "update_time" },
}

/** Statements for one resource. All of them carry the tenant; row-level security holds it a second time. */
export class ResourceSql<
  T extends Stamped & { readonly id: string },
  F extends object,
  R extends ResourceRow,
> {
  readonly #spec: ResourceTable<T, F, R>
  readonly #fields: readonly (keyof F)[]
  readonly #filter: FilterColumns

  constructor(spec: ResourceTable<T, F, R>) {
    this.#spec = spec
    this.#fields = Object.keys(spec.columns) as (keyof F)[]
    this.#filter = { ...COMMON_FILTER, [`${spec.kind}_id`]: { sql: "id" }, ...spec.filter }
  }

  /** Inserts; ALREADY_EXISTS. */
  async insert(tx: Tx, id: string, fields: F, now: Date): Promise<T> {
    const { columns, table, kind } = this.#spec
    const names = this.#fields.map((field) => columns[field].name)
    const values = this.#fields.map((field) => columns[field].write(fields[field]))
    const slots = values.map((_, at) => `$${at + 4}`)
    const { rows } = await tx.query<R>({
      text: `insert into ${table} (tenant, id, create_time, update_time, revision, ${names.join(", ")})
        values ($1, $2, $3, $3, 1, ${slots.join(", ")}) on conflict (tenant, id) do nothing returning *`,
      values: [tx.scope.tenant, id, now, ...values],
    })
    const [row] = rows
    if (row === undefined) throw alreadyExists(kind, id)
    return this.#resource(row)
  }

  /** NOT_FOUND. */
  async get(database: Database, scope: CallScope, id: string): Promise<T> {
    const { rows } = await database.query<R>(scope, {
      name: `kp_get_${this.#spec.kind}`,
      text: `select * from ${this.#spec.table} where tenant = $1 and id = $2`,
      values: [scope.tenant, id],
    })
    const [row] = rows
    if (row === undefined) throw notFound(this.#spec.kind, id)
    return this.#resource(row)
  }

  /** By id in byte order. */
  async list(
    database: Database,
    scope: CallScope,
    filter: Filter | undefined,
    page: PageRequest,
  ): Promise<Page<T>> {
    const values: unknown[] = [scope.tenant, page.cursor?.[0] ?? "", page.size + 1]
    const condition = filter === undefined ? "true" : filterSql(filter, this.#filter, values)
    const { rows } = await database.query<R>(scope, {
      text: `select * from ${this.#spec.table} where tenant = $1 and id > $2 and ${condition} order by id limit $3`,
      values,
    })
    return pageOf(
      rows.map((row) => this.#resource(row)),
      page.size,
      (last) => [last.id],
    )
  }

  /** Takes the row for this transaction. NOT_FOUND; REVISION_MISMATCH. */
  async lock(tx: Tx, id: string, ifRevision: bigint | undefined): Promise<T> {
    const { kind, table } = this.#spec
    const { rows } = await tx.query<R>({
      name: `kp_lock_${kind}`,
      text: `select * from ${table} where tenant = $1 and id = $2 for update`,
      values: [tx.scope.tenant, id],
    })
    const [row] = rows
    if (row === undefined) throw notFound(kind, id)
    if (ifRevision !== undefined && ifRevision !== row.revision) {
      throw revisionMismatch(kind, id, ifRevision, row.revision)
    }
    return this.#resource(row)
  }

  /** Changes the fields given. NOT_FOUND; REVISION_MISMATCH. */
  async update(tx: Tx, id: string, patch: Partial<F>, now: Date, ifRevision?: bigint): Promise<T> {
    await this.lock(tx, id, ifRevision)
    const values: unknown[] = [tx.scope.tenant, id, now]
    const sets: string[] = []
    for (const field of this.#fields) {
      const value = patch[field]
      if (value === undefined) continue
      const { name, write } = this.#spec.columns[field]
      sets.push(`${name} = $${values.push(write(value as F[typeof field]))}, `)
    }
    const { rows } = await tx.query<R>({
      text: `update ${this.#spec.table} set ${sets.join("")}revision = revision + 1, update_time = greatest($3, update_time)
        where tenant = $1 and id = $2 returning *`,
      values,
    })
    const [row] = rows
    if (row === undefined) throw notFound(this.#spec.kind, id)
    return this.#resource(row)
  }

  /** Deletes a row that is locked. */
  async remove(tx: Tx, id: string): Promise<void> {
    await tx.query({
      name: `kp_delete_${this.#spec.kind}`,
      text: `delete from ${this.#spec.table} where tenant = $1 and id = $2`,
      values: [tx.scope.tenant, id],
    })
  }

  #resource(row: R): T {
    const stamped = {
      id: row.id,
      revision: row.revision,
      createTime: row.create_time.getTime(),
      updateTime: row.update_time.getTime(),
    }
    return { ...stamped, ...this.#spec.read(row) } as T
  }
}

/** A page from up to `size + 1` items: the one too many says that there are more. */
export function pageOf<T>(
  items: readonly T[],
  size: number,
  cursor: (last: T) => readonly string[],
): Page<T> {
  if (items.length <= size) return { items }
  const kept = items.slice(0, size)
  const last = kept.at(-1)
  return last === undefined ? { items: kept } : { items: kept, next: cursor(last) }
}
