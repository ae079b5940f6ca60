/** The {@link Database} over a pool of sessions: the same for PGlite and for a server. */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Rows, Statement, Tx } from "./database.ts"
import { isStalePlan, isTransientConflict, overloaded, toDomainError } from "./errors.ts"
import { encode } from "./exchange.ts"
import { type Cancel, fly, isRead } from "./flight.ts"
import { claim, store } from "./idempotency.ts"
import type { Pool } from "./pool.ts"
import type { Session } from "./session.ts"
import { type TenancyOptions, tenantStatement } from "./tenancy.ts"
import { Transaction } from "./transaction.ts"

/** How often a transaction that lost against another one is run, all in all. */
const ATTEMPTS = 5

/** What a database needs to know about its engine. */
export interface PooledDatabaseOptions extends TenancyOptions {
  readonly pool: Pool
  readonly clock: Clock
  /** Stops a running statement; undefined where the engine cannot. */
  readonly cancel: Cancel | undefined
}

/** See {@link Database}. */
export class PooledDatabase implements Database {
  readonly #options: PooledDatabaseOptions

  constructor(options: PooledDatabaseOptions) {
    this.#options = options
  }

  async query<R = Record<string, unknown>>(scope: CallScope, statement: Statement): Promise<Rows<R>> {
    const [rows] = await this.pipeline(scope, [statement])
    // The caller names the columns' types; nothing at run time can check them.
    return rows as unknown as Rows<R>
  }

  async pipeline(
    scope: CallScope,
    statements: readonly Statement[],
  ): Promise<readonly Rows<Record<string, unknown>>[]> {
    const encoded = statements.map(encode)
    const commits = statements.some(({ text, writes }) => writes === true || !isRead(text))
    const { pool, cancel } = this.#options
    return retried(async () => {
      const session = await pool.acquire(scope)
      try {
        const all = [tenantStatement(scope, this.#options), ...encoded]
        return (await fly(session, scope, all, { commits, cancel })).slice(1)
      } finally {
        giveBack(pool, session)
      }
    })
  }

  transaction<T>(scope: CallScope, work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.#transact(scope, async (tx) => {
      const result = await work(tx)
      await tx.commit()
      return result
    })
  }

  mutate<T>(scope: CallScope, operation: string, work: (tx: Tx) => Promise<T>): Promise<T> {
    const { idempotency } = scope
    if (idempotency === undefined) return this.transaction(scope, work)
    return this.#transact(scope, async (tx) => {
      const claimed = await claim(tx, idempotency, operation, this.#options.clock.now())
      // What is stored is what `work` of the same operation answered, so it has its type.
      if (!claimed.fresh) return claimed.result as T
      const result = await work(tx)
      await tx.commit([store(scope, idempotency, operation, result)])
      return result
    })
  }

  close(): Promise<void> {
    return this.#options.pool.close()
  }

  /** `run` commits; whatever it leaves open is rolled back behind the caller's back. */
  #transact<T>(scope: CallScope, run: (tx: Transaction) => Promise<T>): Promise<T> {
    const { pool } = this.#options
    return retried(async () => {
      const session = await pool.acquire(scope)
      const tx = new Transaction(session, scope, this.#options)
      try {
        return await run(tx)
      } catch (error) {
        throw toDomainError(error, { commits: false, sent: true })
      } finally {
        void tx.rollback().then(() => giveBack(pool, session))
      }
    })
  }
}

/** The session is busy until its last statement ended, whoever still waits for it. */
function giveBack(pool: Pool, session: Session): void {
  void session.settled().then(() => pool.release(session))
}

async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let left = ATTEMPTS - 1; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      // A stale plan is gone with its connection and those as old as it.
      if (isStalePlan(error) && left > 0) continue
      if (!isTransientConflict(error)) throw error
      if (left === 0)
        throw overloaded("the change lost against concurrent ones too often; nothing was applied", error)
    }
  }
}
