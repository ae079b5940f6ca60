/** One connection to PostgreSQL or PGlite, on pg's Client. Used by one borrower at a time. */
import type { Socket } from "node:net"
import pg from "pg"
import { breaksConnection, schemaMismatch, serverError, storeUnavailable } from "./errors.ts"
import { type EncodedStatement, Exchange, encode, PreparedNames, type StatementResult } from "./exchange.ts"
import { APP_ROLE, settingCalls } from "./session-settings.ts"

/** `owner` is the login role itself, for migrations; `app` owns nothing and is bound by row-level security. */
export type SessionRole = "owner" | "app"

const NO_SUCH_ROLE = "22023"

const SETUP = encode({ text: `select ${settingCalls("connection")}` })

/** How {@link Session.connect} connects. */
export interface SessionOptions {
  /** Longest time until the session is ready, in milliseconds. Default: no limit. */
  readonly connectMs?: number
  /** What statements run as. Default `owner`. */
  readonly role?: SessionRole
  /** Set where each transaction may run on another connection of the server: nothing is set on it, statements bring it with them. */
  readonly stateless?: boolean
  /** Whether statements keep their names, under which the server prepares them once. Default true. */
  readonly named?: boolean
}

/** One connection. */
export class Session {
  readonly createdAt = Date.now()
  /** When it was given back last, in milliseconds since the epoch; for the pool. */
  idleSince = Date.now()
  readonly #client: pg.Client
  readonly #options: SessionOptions
  readonly #prepared = new PreparedNames()
  #role: SessionRole = "owner"
  #failure: Error | undefined
  #lost = false
  #tail: Promise<unknown> = Promise.resolve()

  private constructor(client: pg.Client, options: SessionOptions) {
    this.#client = client
    this.#options = options
    client.on("error", (error) => this.#lose(error))
    client.on("end", () => this.#lose(new Error("connection ended")))
  }

  /** Connects and sets what every statement relies on. Rejects with the driver's error, or as {@link assume} does. */
  static async connect(config: pg.ClientConfig, options: SessionOptions = {}): Promise<Session> {
    const client = new pg.Client(config)
    const session = new Session(client, options)
    const { connectMs, role = "owner", stateless = false } = options
    const timer = connectMs === undefined ? undefined : setTimeout(() => session.destroy(), connectMs)
    try {
      await client.connect()
      pgConnection(client).on("parseComplete", () => session.#prepared.acknowledge())
      if (!stateless) {
        await session.run([SETUP])
        await session.assume(role)
      }
      return session
    } catch (error) {
      session.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /** Whether it can be lent again. */
  get usable(): boolean {
    return this.#failure === undefined
  }

  /** Whether the server ended it or made it useless, so that its siblings are in doubt, too. */
  get lost(): boolean {
    return this.#lost
  }

  /** The other end, where it is not a Unix socket. */
  get peer(): { readonly host: string; readonly port: number } | undefined {
    const { remoteAddress: host, remotePort: port } = pgConnection(this.#client).stream as Partial<Socket>
    return host === undefined || port === undefined ? undefined : { host, port }
  }

  /** Whether a transaction is open on the server, as of the last answer. */
  get inTransaction(): boolean {
    const status = this.#client.getTransactionStatus()
    return status !== null && status !== "I"
  }

  /** Makes `role` the one that statements run under. Rejects with SCHEMA_MISMATCH when the database does not have it yet. */
  async assume(role: SessionRole): Promise<void> {
    if (this.#role === role || this.#options.stateless === true) return
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
    const { named = true } = this.#options
    const sent = named ? statements : statements.map((statement) => ({ ...statement, name: "" }))
    const exchange = new Exchange(sent, this.#prepared)
    const before = this.#tail
    this.#tail = exchange.outcome.catch((error) => {
      if (breaksConnection(error)) this.#lose(error)
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

  /** Says good-bye and resolves when the connection is gone; a server that hangs is not waited for longer than for a connection. */
  async close(): Promise<void> {
    if (!this.usable) {
      this.destroy()
      return
    }
    const { connectMs } = this.#options
    const timer = connectMs === undefined ? undefined : setTimeout(() => this.destroy(), connectMs)
    try {
      await this.#client.end()
    } finally {
      clearTimeout(timer)
    }
  }

  /** Drops the connection without a word. */
  destroy(): void {
    this.#break(new Error("connection destroyed"))
    pgConnection(this.#client).stream.destroy()
  }

  /** What follows from our own good-bye is no loss. */
  #lose(error: unknown): void {
    if (this.#failure === undefined) this.#lost = true
    this.#break(error)
  }

  #break(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : new Error(String(error))
  }
}

function pgConnection(client: pg.Client): pg.Connection {
  return (client as unknown as { connection: pg.Connection }).connection
}
