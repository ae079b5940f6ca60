/** The outbox in PostgreSQL. */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { OutboxTopicStatus, ParkedEntry } from "../../domain/outbox/model.ts"
import type {
  OutboxBatch,
  OutboxClaim,
  OutboxSettlement,
  OutboxStore,
  SettledBatch,
} from "../../domain/outbox/ports.ts"
import type { Database, Statement } from "./database.ts"
import {
  OUTBOX_COLUMNS,
  type OutboxRow,
  outboxEntryOf,
  PARKED_COLUMNS,
  type ParkedRow,
  parkedEntryOf,
} from "./outbox-rows.ts"
import { doneStatement, settleStatements } from "./outbox-settle.ts"
import { platformScope } from "./platform-scope.ts"

/** How {@link createPostgresOutboxStore} works. */
export interface PostgresOutboxStoreOptions {
  /** For tests. By default the database's clock decides about leases, so that daemons need not agree about the time. */
  readonly clock?: Clock | undefined
}

/** The {@link OutboxStore} of `database`. */
export function createPostgresOutboxStore(
  database: Database,
  options: PostgresOutboxStoreOptions = {},
): OutboxStore {
  return new PostgresOutboxStore(database, options.clock)
}

// The lock, the look and the leases are a function of the database: one statement to send, to plan once.
const CLAIM = `select ${OUTBOX_COLUMNS}, o.fence
  from keelplane.outbox_claim($1, $2::timestamptz, $3::bigint, $4::bigint, $5::bigint * interval '1 ms') o`

class PostgresOutboxStore implements OutboxStore {
  readonly #database: Database
  readonly #clock: Clock | undefined

  constructor(database: Database, clock: Clock | undefined) {
    this.#database = database
    this.#clock = clock
  }

  async claim(scope: CallScope, { topic, max, maxBytes, leaseMs }: OutboxClaim): Promise<OutboxBatch> {
    const { rows } = await this.#database.query<OutboxRow & { readonly fence: bigint }>(
      platformScope(scope),
      {
        name: "outbox_claim",
        text: CLAIM,
        values: [topic, this.#now(), max, maxBytes, Math.ceil(leaseMs)],
        writes: true,
      },
    )
    const ordered = [...rows].sort((a, b) => (a.id < b.id ? -1 : 1))
    return { topic, fence: rows[0]?.fence ?? 0n, entries: ordered.map(outboxEntryOf) }
  }

  async settle(scope: CallScope, batch: SettledBatch, settlement: OutboxSettlement): Promise<number> {
    const { done = [] } = settlement
    const removal = done.length > 0 ? [doneStatement(batch, done)] : []
    const changes = settleStatements(batch, settlement, this.#now())
    if (removal.length + changes.length === 0) return 0
    const lock = changes.length > 0 ? [lockSettling(batch.topic)] : []
    const settled = await this.#database.pipeline(platformScope(scope), [...removal, ...lock, ...changes])
    const changed = settled.slice(removal.length + lock.length).reduce((sum, { count }) => sum + count, 0)
    return changed + (removal.length > 0 ? Number(settled[0]?.rows[0]?.gone) : 0)
  }

  async status(scope: CallScope): Promise<readonly OutboxTopicStatus[]> {
    const { rows } = await this.#database.query<StatusRow>(platformScope(scope), {
      name: "outbox_status",
      text: `select o.topic, count(*) filter (where o.parked_at is null) as pending,
          count(o.parked_at) as parked,
          (extract(epoch from statement_timestamp() - min(o.created_at) filter (where o.parked_at is null)) * 1000)::float8 as age
        from keelplane.outbox o group by o.topic order by o.topic`,
    })
    return rows.map(({ topic, pending, parked, age }) => ({
      topic,
      pending,
      parked,
      oldestAgeMs: age === null ? undefined : Math.max(0, age),
    }))
  }

  async listParked(
    scope: CallScope,
    topic: string | undefined,
    page: PageRequest,
  ): Promise<Page<ParkedEntry>> {
    const { rows } = await this.#database.query<ParkedRow>(platformScope(scope), {
      name: "outbox_parked",
      text: `select ${PARKED_COLUMNS} from keelplane.outbox o
        where o.parked_at is not null and ($1::text is null or o.topic = $1) and o.id > $2 order by o.id limit $3`,
      values: [topic ?? null, BigInt(page.cursor?.[0] ?? 0), page.size + 1],
    })
    const items = rows.slice(0, page.size).map(parkedEntryOf)
    const last = items.at(-1)
    return rows.length > page.size && last !== undefined ? { items, next: [last.id] } : { items }
  }

  replay: OutboxStore["replay"] = (scope, { topic, ids }, limit) =>
    this.#database.mutate(platformScope(scope), "outbox.replay", async (tx) => {
      const { count } = await tx.query({
        name: "outbox_replay",
        text: `update keelplane.outbox o
          set parked_at = null, held_until = null, fence = null, strikes = 0, fault_reason = null, fault_message = null
          where o.id in (select p.id from keelplane.outbox p
            where p.parked_at is not null and ($1::text is null or p.topic = $1) and ($2::bigint[] is null or p.id = any($2))
            order by p.id limit $3 for update)`,
        values: [topic ?? null, ids === undefined ? null : ids.map(BigInt), limit],
      })
      return count
    })

  #now(): Date | null {
    return this.#clock === undefined ? null : new Date(this.#clock.now())
  }
}

interface StatusRow {
  readonly topic: string
  readonly pending: bigint
  readonly parked: bigint
  readonly age: number | null
}

/**
 * Several may settle at once, but none while a claim looks, which must not see one entry of a key as it was and the next as it is.
 * The statements behind it are planned once: for their days alone the planner would do it each time.
 */
function lockSettling(topic: string): Statement {
  return {
    name: "outbox_lock_settling",
    text: `select pg_advisory_xact_lock_shared(hashtextextended('keelplane outbox ' || $1::text, 0)),
      set_config('plan_cache_mode', 'force_generic_plan', true)`,
    values: [topic],
  }
}
