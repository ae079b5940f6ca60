/**
 * The SQL seam: what every adapter in this folder is written against. PGlite and a PostgreSQL server differ only in how
 * src/stores/postgres/client makes the connections behind it.
 *
 * Tenancy: every call runs with the scope's tenant in `keelplane.tenant` (set_config, local to the transaction) under a role
 * that owns nothing, so that row-level security is the second fence behind the explicit `tenant = $1` of each statement.
 *
 * Values: ./values says which JavaScript type each column comes back as and each parameter may be; int8 is a bigint,
 * timestamptz a Date, and a JSON array must be given as JSON text.
 */
import type { CallScope } from "../../domain/kernel/scope.ts"

/** One parameterised statement. Values are never part of the text. */
export interface Statement {
  /** Set it to have the statement prepared once per connection under this name. Names are unique per text. */
  readonly name?: string
  readonly text: string
  readonly values?: readonly unknown[]
  /** Set it on a SELECT that calls a function which writes; other statements tell by their text. */
  readonly writes?: boolean
}

/** Rows as objects by column name, and how many rows the statement touched. */
export interface Rows<R> {
  readonly rows: readonly R[]
  readonly count: number
}

/** Runs statements inside one open transaction. */
export interface Tx {
  /** The scope the transaction runs for. */
  readonly scope: CallScope
  /**
   * One round trip. Rejects with the driver's own error when the server refuses the statement, so that `work` can look at it
   * (isUniqueViolation of ./errors); after that nothing but throwing makes sense, for the transaction cannot go on.
   */
  query<R = Record<string, unknown>>(statement: Statement): Promise<Rows<R>>
  /** Several statements in one round trip; results in order. Fails as {@link Tx.query} does. */
  pipeline(statements: readonly Statement[]): Promise<readonly Rows<Record<string, unknown>>[]>
  /** Sends statements together with the commit: a round trip less, for writes whose results nobody reads. */
  last(statements: readonly Statement[]): void
}

/** Connections to one PostgreSQL (or PGlite) database. Rejects with DomainError only: see ./errors. */
export interface Database {
  /**
   * One statement in its own transaction; one round trip. A SELECT that calls a function which writes says so
   * ({@link Statement.writes}): left early, a plain SELECT is reported as not applied.
   */
  query<R = Record<string, unknown>>(scope: CallScope, statement: Statement): Promise<Rows<R>>

  /** Several statements in one transaction without waiting in between; one round trip; all or nothing; results in order. */
  pipeline(
    scope: CallScope,
    statements: readonly Statement[],
  ): Promise<readonly Rows<Record<string, unknown>>[]>

  /**
   * An interactive transaction (read committed). `work` must not wait for anything but `tx`, for the embedded engine has one
   * connection. Throwing rolls back. `work` runs again, from its beginning, when the transaction lost against another one
   * (serialization failure, deadlock), so it must not have effects outside of `tx`.
   */
  transaction<T>(scope: CallScope, work: (tx: Tx) => Promise<T>): Promise<T>

  /**
   * A transaction for a mutation. With `scope.idempotency` set, the result (any structured-cloneable value) is stored under
   * (tenant, method, request_id, operation) in the same transaction, and a repetition answers the stored result without
   * running `work`; another body hash rejects with REQUEST_ID_REUSED. Records live at least 24 hours.
   * @param operation names the port method, so that one RPC may use several.
   */
  mutate<T>(scope: CallScope, operation: string, work: (tx: Tx) => Promise<T>): Promise<T>

  /** Ends all connections after the work in flight. */
  close(): Promise<void>
}
