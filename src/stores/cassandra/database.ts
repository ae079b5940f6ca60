/** The seam between what is kept and how it is reached: statements, and the four ways to send them. */
import type { CallScope } from "../../domain/kernel/scope.ts"

/**
 * CQL with `?` for values. A value that is undefined leaves its column unset, null deletes it. bigint is bigint, Date is
 * timestamp, Uint8Array is blob, and a uuid may be text.
 */
export interface Statement {
  readonly cql: string
  readonly values?: readonly unknown[]
}

/** One row by its columns' names; null where a column is unset. bigint, Date, Buffer; uuids as objects with toString. */
export type Row = Readonly<Record<string, unknown>>

/** What a conditional write came to. */
export interface Applied {
  readonly applied: boolean
  /** Where not applied: the rows as they are instead, as far as the server tells. */
  readonly current: readonly Row[]
}

/** How a read is done. */
export interface ReadOptions {
  /** Sees every conditional write whose outcome is decided, and decides those that are not. */
  readonly serial?: boolean
  /** Rows that the server answers at once. Default 256. */
  readonly pageRows?: number
}

/**
 * A keyspace. Rejects with DomainError only: STORE_UNAVAILABLE, OVERLOADED and DEADLINE_EXCEEDED where nothing was applied,
 * OUTCOME_UNKNOWN where a write was sent and not answered, STORE_AUTH, SCHEMA_MISMATCH.
 */
export interface Cluster {
  /** All rows, page after page. Give the statement a `limit` where they might be many. */
  read<R = Row>(scope: CallScope, statement: Statement, options?: ReadOptions): Promise<readonly R[]>

  /** The rows page by page; the next page is asked for when it is taken. */
  pages<R = Row>(scope: CallScope, statement: Statement, options?: ReadOptions): AsyncGenerator<readonly R[]>

  /** A plain write; never of rows that conditional writes change. */
  write(scope: CallScope, statement: Statement): Promise<void>

  /** Plain writes to one partition, all or nothing. */
  batch(scope: CallScope, statements: readonly Statement[]): Promise<void>

  /** Conditional writes to one partition of one table, all or nothing. Answers whether they took place, and what is there where not. */
  cas(scope: CallScope, statements: readonly Statement[]): Promise<Applied>
}
