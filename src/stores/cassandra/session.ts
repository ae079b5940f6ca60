/**
 * Statements under a call's scope. Reads may be asked of a second node; nothing else is ever sent twice. The driver cannot stop
 * what it has sent: a caller whose time is over is answered, and the request counts as under way until its answer comes.
 */
import cassandra from "cassandra-driver"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { isLoginRefused } from "./client.ts"
import type { Connection } from "./connection.ts"
import type { Applied, Cluster, ReadOptions, Row, Statement } from "./database.ts"
import {
  type Effect,
  outcomeUnknown,
  scopeEnded,
  storeAuth,
  storeUnavailable,
  toDomainError,
} from "./errors.ts"
import type { Flight } from "./flight.ts"

export type { Applied, Cluster, ReadOptions, Row, Statement } from "./database.ts"

const { consistencies } = cassandra.types

/** Consistency per class of operation. */
export interface Consistency {
  readonly read: number
  readonly write: number
  readonly serial: number
}

/** LOCAL_QUORUM, and LOCAL_SERIAL for conditions. */
export const DEFAULT_CONSISTENCY: Consistency = {
  read: consistencies.localQuorum,
  write: consistencies.localQuorum,
  serial: consistencies.localSerial,
}

/** How {@link Session} works. */
export interface SessionOptions {
  readonly consistency: Consistency
  /** The longest wait for an answer where no deadline is nearer, in milliseconds. */
  readonly timeoutMs: number
}

const PAGE_ROWS = 256
const READ_RETRY = new cassandra.policies.retry.RetryPolicy()
const NO_RETRY = new cassandra.policies.retry.FallthroughRetryPolicy()

/** See the file's comment, and {@link Cluster}. */
export class Session implements Cluster {
  readonly #connection: Connection
  readonly #flight: Flight
  readonly #options: SessionOptions

  constructor(connection: Connection, flight: Flight, options: SessionOptions) {
    this.#connection = connection
    this.#flight = flight
    this.#options = options
  }

  /** See {@link Cluster.read}. */
  async read<R = Row>(
    scope: CallScope,
    statement: Statement,
    options: ReadOptions = {},
  ): Promise<readonly R[]> {
    const rows: R[] = []
    for await (const page of this.pages<R>(scope, statement, options)) rows.push(...page)
    return rows
  }

  /** See {@link Cluster.pages}. */
  async *pages<R = Row>(
    scope: CallScope,
    { cql, values }: Statement,
    { serial = false, pageRows = PAGE_ROWS }: ReadOptions = {},
  ): AsyncGenerator<readonly R[]> {
    const { consistency, timeoutMs } = this.#options
    let pageState: string | undefined
    do {
      const paging = pageState === undefined ? {} : { pageState }
      const result = await this.#execute(scope, "read", (client) =>
        client.execute(cql, values ?? [], {
          prepare: true,
          fetchSize: pageRows,
          readTimeout: timeoutMs,
          consistency: serial ? consistency.serial : consistency.read,
          isIdempotent: !serial,
          retry: serial ? NO_RETRY : READ_RETRY,
          ...paging,
        }),
      )
      pageState = result.pageState ?? undefined
      // The columns are those of the statement.
      yield (result.rows ?? []) as unknown as readonly R[]
    } while (pageState !== undefined)
  }

  /** See {@link Cluster.write}. */
  async write(scope: CallScope, { cql, values }: Statement): Promise<void> {
    await this.#execute(scope, "write", (client) => client.execute(cql, values ?? [], this.#writing()))
  }

  /** See {@link Cluster.batch}. */
  async batch(scope: CallScope, statements: readonly Statement[]): Promise<void> {
    if (statements.length > 0) await this.#batch(scope, "write", statements)
  }

  /** See {@link Cluster.cas}. */
  async cas(scope: CallScope, statements: readonly Statement[]): Promise<Applied> {
    const [first, ...rest] = statements
    if (first === undefined) throw new RangeError("a conditional batch is never empty")
    const result =
      rest.length > 0
        ? await this.#batch(scope, "cas", statements)
        : await this.#execute(scope, "cas", (client) =>
            client.execute(first.cql, first.values ?? [], this.#writing()),
          )
    // Columns by name, since servers differ in which rows they answer and in what order; some answer empty ones.
    const rows = (result.rows ?? []) as readonly (Row | null)[]
    const applied = rows.length > 0 && rows.every((row) => row?.["[applied]"] === true)
    return { applied, current: applied ? [] : rows.filter((row) => row !== null) }
  }

  #writing() {
    const { consistency, timeoutMs } = this.#options
    return {
      prepare: true,
      readTimeout: timeoutMs,
      consistency: consistency.write,
      serialConsistency: consistency.serial,
      retry: NO_RETRY,
    }
  }

  #batch(scope: CallScope, effect: Effect, statements: readonly Statement[]) {
    const queries = statements.map(({ cql, values }) => ({ query: cql, params: [...(values ?? [])] }))
    // A batch for one partition is one write: a log of it would only cost.
    return this.#execute(scope, effect, (client) =>
      client.batch(queries, { ...this.#writing(), logged: false }),
    )
  }

  async #execute(
    scope: CallScope,
    effect: Effect,
    send: (client: cassandra.Client) => Promise<cassandra.types.ResultSet>,
  ): Promise<cassandra.types.ResultSet> {
    if (scope.deadlineMs <= Date.now()) throw scopeEnded(scope)
    const client = await this.#connection.client(scope)
    await this.#flight.take(scope)
    const answer = begin(() => send(client))
    // It may come after its caller has gone.
    answer.then(
      () => this.#flight.give(),
      () => this.#flight.give(),
    )
    const late = this.#late(scope, effect)
    try {
      return await Promise.race([answer, late.promise])
    } catch (error) {
      const told = toDomainError(error, effect, scope)
      throw told.reason === "STORE_UNAVAILABLE" && isLoginRefused(client) ? storeAuth(error) : told
    } finally {
      late.stop()
    }
  }

  /** Rejects when the call's time, or ours, is over. */
  #late(scope: CallScope, effect: Effect) {
    const { promise, reject } = Promise.withResolvers<never>()
    const end = () => reject(lateError(scope, effect))
    const left = Math.min(scope.deadlineMs - Date.now(), this.#options.timeoutMs)
    const timer = setTimeout(end, Math.max(0, left))
    if (scope.signal.aborted) end()
    else scope.signal.addEventListener("abort", end, { once: true })
    const stop = () => {
      clearTimeout(timer)
      scope.signal.removeEventListener("abort", end)
    }
    return { promise, stop }
  }
}

/** What `work` throws at once is a rejection, too. */
async function begin<T>(work: () => Promise<T>): Promise<T> {
  return work()
}

/** What a missing answer means when the call's time, or ours, is over. */
function lateError(scope: CallScope, effect: Effect) {
  if (effect !== "read") return outcomeUnknown()
  return Date.now() >= scope.deadlineMs || scope.signal.aborted ? scopeEnded(scope) : storeUnavailable()
}
