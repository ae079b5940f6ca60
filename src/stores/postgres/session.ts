/** One connection to PostgreSQL or PGlite, on pg's Client. Used by one borrower at a time. */
import pg from "pg"
import { breaksConnection, schemaMismatch, serverError, storeUnavailable } from "./errors.ts"
import { type EncodedStatement, Exchange, encode, PreparedNames, type StatementResult } from "./exchange.ts"

/** `owner` is the login role itself, for migrations; `app` owns nothing and is bound by row-level security. */
export type SessionRole = "owner" | "app"

/** The role that 0001_base.sql makes. */
const APP_ROLE = "keelplane_app"

const NO_SUCH_ROLE = "22023"

const SETUP = encode({
  text: "select set_config('search_path', 'keelplane, public', false), set_config('timezone', 'UTC', false), set_config('client_min_messages', 'warning', false), set_config('intervalstyle', 'postgres', false), set_config('bytea_output', 'hex', false), set_config('extra_float_digits', '1', false)",
})

/** One connection. */
export class Session {
  readonly createdAt = Date.now()
  /** When it was given back last, in milliseconds since the epoch; for the pool. */
  idleSince = Date.now()
  readonly #client: pg.Client
  readonly #prepared = new PreparedNames()
  #role: SessionRole = "owner"
  #failure: Error | undefined
  #tail: Promise<unknown> = Promise.resolve()

  private constructor(client: pg.Client) {
    this.#client = client
    client.on("error", (error) => this.#break(error))
    client.on("end", () => this.#break(new Error("connection ended")))
  }

  /** Connects as the login role and sets what every statement relies on. Rejects with the driver's error. */
  static async connect(config: pg.ClientConfig): Promise<Session> {
    const client = new pg.Client(config)
    const session = new Session(client)
    await client.connect()
    pgConnection(client).on("parseComplete", () => session.#prepared.acknowledge())
    await session.run([SETUP])
    return session
  }

  /** Whether it can be lent again. */
  get usable(): boolean {
    return this.#failure === undefined
  }

  /** Whether a transaction is open on the server, as of the last answer. */
  get inTransaction(): boolean {
    const status = this.#client.getTransactionStatus()
    return status !== null && status !== "I"
  }

  /** Makes `role` the one that statements run under. Rejects with SCHEMA_MISMATCH when the database does not have it yet. */
  async assume(role: SessionRole): Promise<void> {
    if (this.#role === role) return
    try {
      await this.run([encode({ text: role === "app" ? `set role ${APP_ROLE}` : "reset role" })])
    } catch (error) {
      throw serverError(error)?.code === NO_SUCH_ROLE ? schemaMismatch(error) : error
    }
    this.#role = role
  }

  /** One round trip. Rejects with the driver's error. */
  async run(statements: readonly EncodedStatement[]): Promise<readonly StatementResult[]> {
    return this.start(statements).outcome
  }

  /** Like {@link run}, with a look at how far it went. Waits for the round trips before it. */
  start(statements: readonly EncodedStatement[]): Exchange {
    const exchange = new Exchange(statements, this.#prepared)
    const before = this.#tail
    this.#tail = exchange.outcome.catch((error) => {
      if (breaksConnection(error)) this.#break(error)
    })
    void before.then(() => {
      if (this.#failure === undefined) this.#client.query(exchange as unknown as pg.Submittable)
      else exchange.handleError(storeUnavailable(this.#failure))
    })
    return exchange
  }

  /** Several statements in one text without parameters, as migrations have them; the simple protocol. */
  async script(text: string): Promise<void> {
    await this.#tail
    await this.#client.query(text)
  }

  /** Keeps the session busy until `work` is over: a late cancel request must not hit the next borrower. */
  hold(work: Promise<void>): void {
    const before = this.#tail
    this.#tail = work.catch(() => this.destroy()).then(() => before)
  }

  /** Resolves when nothing is running any more. */
  async settled(): Promise<void> {
    await this.#tail
  }

  /** What a cancel request must name. */
  get backend(): { readonly processId: number; readonly secretKey: number } | undefined {
    const { processID, secretKey } = this.#client as unknown as { processID?: number; secretKey?: number }
    return processID == null || secretKey == null ? undefined : { processId: processID, secretKey }
  }

  /** Says good-bye and resolves when the connection is gone. */
  async close(): Promise<void> {
    if (this.usable) await this.#client.end()
    else this.destroy()
  }

  /** Drops the connection without a word. */
  destroy(): void {
    this.#break(new Error("connection destroyed"))
    pgConnection(this.#client).stream.destroy()
  }

  #break(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
  }
}

function pgConnection(client: pg.Client): pg.Connection {
  return (client as unknown as { connection: pg.Connection }).connection
}
