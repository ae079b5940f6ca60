/** An interactive transaction on one session. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Rows, Statement, Tx } from "./database.ts"
import { type EncodedStatement, encode, type StatementResult } from "./exchange.ts"
import { type Cancel, fly, isRead } from "./flight.ts"
import type { Session } from "./session.ts"
import { type TenancyOptions, tenantStatement } from "./tenancy.ts"

const BEGIN: EncodedStatement = { name: "kp_begin", text: "begin", values: [] }
const COMMIT: EncodedStatement = { name: "kp_commit", text: "commit", values: [] }
const ROLLBACK: EncodedStatement = { name: "kp_rollback", text: "rollback", values: [] }

/** What a transaction needs to know about its engine. */
export interface TransactionOptions extends TenancyOptions {
  /** Stops a running statement; undefined where the engine cannot. */
  readonly cancel: Cancel | undefined
}

/** BEGIN travels with the first statement, so a transaction of one statement costs two round trips. */
export class Transaction implements Tx {
  readonly scope: CallScope
  readonly #session: Session
  readonly #options: TransactionOptions
  #state: "idle" | "open" | "over" = "idle"
  #wrote = false
  #last: readonly Statement[] = []

  constructor(session: Session, scope: CallScope, options: TransactionOptions) {
    this.#session = session
    this.scope = scope
    this.#options = options
  }

  async query<R = Record<string, unknown>>(statement: Statement): Promise<Rows<R>> {
    const [rows] = await this.pipeline([statement])
    // The caller names the columns' types; nothing at run time can check them.
    return rows as unknown as Rows<R>
  }

  async pipeline(statements: readonly Statement[]): Promise<readonly Rows<Record<string, unknown>>[]> {
    const encoded = statements.map(encode)
    const before = this.#begin()
    const results = await this.#fly([...before, ...encoded], false)
    return results.slice(before.length)
  }

  last(statements: readonly Statement[]): void {
    this.#last = [...this.#last, ...statements]
  }

  /** Commits, after those of {@link last} and `last` in the same round trip. Rejects with OUTCOME_UNKNOWN when the answer does not come. */
  async commit(last: readonly Statement[] = []): Promise<void> {
    const encoded = [...this.#last, ...last].map(encode)
    if (this.#state === "idle" && encoded.length === 0) {
      this.#state = "over"
      return
    }
    const before = this.#begin()
    this.#wrote ||= encoded.length > 0
    const results = await this.#fly([...before, ...encoded, COMMIT], this.#wrote)
    this.#state = "over"
    // COMMIT of a transaction in which a statement failed rolls back, and says so only in its tag.
    if (results.at(-1)?.tag !== "COMMIT") {
      throw new DomainError("INTERNAL", "internal error", {
        cause: new Error("a failed statement's error was swallowed inside the transaction"),
      })
    }
  }

  /** Undoes what was done. Never rejects: a connection that cannot roll back is dropped, which rolls back too. */
  async rollback(): Promise<void> {
    const open = this.#state === "open"
    this.#state = "over"
    if (!open) return
    try {
      await this.#session.run([ROLLBACK])
    } catch {
      this.#session.destroy()
    }
  }

  #begin(): EncodedStatement[] {
    if (this.#state === "over")
      throw new DomainError("INTERNAL", "internal error", { cause: new Error("the transaction is over") })
    if (this.#state === "open") return []
    this.#state = "open"
    return [BEGIN, tenantStatement(this.scope, this.#options)]
  }

  #fly(statements: readonly EncodedStatement[], commits: boolean): Promise<readonly StatementResult[]> {
    this.#wrote ||= statements.some(({ text, name }) => !name.startsWith("kp_") && !isRead(text))
    return fly(this.#session, this.scope, statements, {
      commits,
      rawErrors: true,
      cancel: this.#options.cancel,
    })
  }
}
