/** Locks in PostgreSQL: one row per name, taken by a conditional upsert that waits for nobody. */
import type { LockAttempt, LockHolder, LockRequest, LockStore } from "../../domain/cache/lock-model.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Statement } from "./database.ts"

/** How {@link createPostgresLockStore} works. */
export interface PostgresLockStoreOptions {
  /** For tests. By default the database's clock decides about leases, so that daemons need not agree about the time. */
  readonly clock?: Clock | undefined
}

/** A {@link LockStore} over `database`. */
export function createPostgresLockStore(
  database: Database,
  options: PostgresLockStoreOptions = {},
): LockStore {
  return new PostgresLockStore(database, options.clock)
}

interface LockRow {
  readonly owner: string
  readonly token: bigint
  readonly metadata: string
  readonly acquired_at: Date
  readonly expires_at: Date
}

// The time of a statement: the injected clock's in $2, or the server's.
const NOW = "date_trunc('milliseconds', coalesce($2::timestamptz, statement_timestamp()))"
const COLUMNS = "l.owner, l.token, l.metadata, l.acquired_at, l.expires_at"

class PostgresLockStore implements LockStore {
  readonly #database: Database
  readonly #clock: Clock | undefined

  constructor(database: Database, clock: Clock | undefined) {
    this.#database = database
    this.#clock = clock
  }

  async tryAcquire(scope: CallScope, request: LockRequest): Promise<LockAttempt> {
    const acquire = this.#acquireStatement(scope, request)
    if (scope.idempotency === undefined) {
      const [mine, theirs] = await this.#database.pipeline(scope, [
        acquire,
        this.#getStatement(scope, request.name),
      ])
      return attemptOf(mine?.rows, theirs?.rows)
    }
    // Rolling back an attempt that failed keeps it from becoming the answer for ever.
    const taken = new DomainError("FAILED_PRECONDITION", "the lock is held")
    try {
      return await this.#database.mutate(scope, "locks.acquire", async (tx) => {
        const { rows } = await tx.query(acquire)
        if (rows.length === 0) throw taken
        return attemptOf(rows, [])
      })
    } catch (error) {
      if (error !== taken) throw error
      return { acquired: false, holder: await this.get(scope, request.name) }
    }
  }

  renew(scope: CallScope, name: string, token: bigint, ttlMs: number): Promise<number> {
    return this.#database.mutate(scope, "locks.renew", async (tx) => {
      const { rows } = await tx.query<{ expires_at: Date }>({
        name: "lock_renew",
        text: `update locks l set expires_at = ${NOW} + $5 * interval '1 ms'
          where l.tenant = $1 and l.name = $3 and l.token = $4 and l.expires_at > ${NOW} returning l.expires_at`,
        values: [scope.tenant, this.#now(), name, token, ttlMs],
      })
      if (rows[0] === undefined) throw notHeld(name)
      return rows[0].expires_at.getTime()
    })
  }

  release(scope: CallScope, name: string, token: bigint): Promise<void> {
    return this.#database.mutate(scope, "locks.release", async (tx) => {
      const { count } = await tx.query({
        name: "lock_release",
        text: `update locks l set expires_at = ${NOW}
          where l.tenant = $1 and l.name = $3 and l.token = $4 and l.expires_at > ${NOW}`,
        values: [scope.tenant, this.#now(), name, token],
      })
      if (count === 0) throw notHeld(name)
    })
  }

  async get(scope: CallScope, name: string): Promise<LockHolder | undefined> {
    const { rows } = await this.#database.query<LockRow>(scope, this.#getStatement(scope, name))
    return rows[0] === undefined ? undefined : holderOf(rows[0])
  }

  async sweep(scope: CallScope, limit: number): Promise<number> {
    const { count } = await this.#database.query(scope, {
      name: "lock_sweep",
      text: `with idle as (
          select d.tenant, d.name from locks d where d.expires_at < ${NOW} - interval '1 day' and (d.tenant = $1 or $1 = '*')
          order by d.expires_at limit $3 for update skip locked
        )
        delete from locks l using idle where l.tenant = idle.tenant and l.name = idle.name`,
      values: [scope.tenant, this.#now(), limit],
    })
    return count
  }

  // The token is made under the row's lock and from the row's own last token; the clock's part matters only for a name
  // whose row the sweeper took.
  #acquireStatement(scope: CallScope, request: LockRequest): Statement {
    return {
      name: "lock_acquire",
      text: `insert into locks as l (tenant, name, owner, token, metadata, acquired_at, expires_at)
        values ($1, $3, $4, (extract(epoch from coalesce($2::timestamptz, statement_timestamp())) * 1000000)::bigint, $5,
          ${NOW}, ${NOW} + $6 * interval '1 ms')
        on conflict (tenant, name) do update set owner = excluded.owner, token = greatest(l.token + 1, excluded.token),
          metadata = excluded.metadata, acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
        where l.expires_at <= excluded.acquired_at
        returning ${COLUMNS}`,
      values: [
        scope.tenant,
        this.#now(),
        request.name,
        request.ownerId,
        JSON.stringify(request.metadata),
        request.ttlMs,
      ],
    }
  }

  #getStatement(scope: CallScope, name: string): Statement {
    return {
      name: "lock_get",
      text: `select ${COLUMNS} from locks l where l.tenant = $1 and l.name = $3 and l.expires_at > ${NOW}`,
      values: [scope.tenant, this.#now(), name],
    }
  }

  #now(): Date | null {
    return this.#clock === undefined ? null : new Date(this.#clock.now())
  }
}

function attemptOf(
  mine: readonly Record<string, unknown>[] = [],
  theirs: readonly Record<string, unknown>[] = [],
): LockAttempt {
  // Both statements select COLUMNS.
  const [own, other] = [mine[0], theirs[0]] as unknown as [LockRow | undefined, LockRow | undefined]
  if (own !== undefined) return { acquired: true, holder: holderOf(own) }
  return { acquired: false, holder: other === undefined ? undefined : holderOf(other) }
}

function holderOf(row: LockRow): LockHolder {
  return {
    ownerId: row.owner,
    token: row.token,
    acquireMs: row.acquired_at.getTime(),
    expireMs: row.expires_at.getTime(),
    metadata: JSON.parse(row.metadata) as JsonObject,
  }
}

function notHeld(name: string): DomainError {
  return new DomainError(
    "LOCK_NOT_HELD",
    `lock "${name}" is not held under this token any more; stop using what it guards`,
    { metadata: { name } },
  )
}
