/** The audit log in PostgreSQL. */
import type {
  AuditChainHead,
  AuditDayHead,
  AuditEntry,
  AuditReceipt,
  AuditRecord,
} from "../../domain/event/audit-model.ts"
import { AUDIT_BATCH_MAX, MAX_AUDIT_BYTES } from "../../domain/event/audit-model.ts"
import type {
  AuditPeriod,
  AuditPosition,
  AuditQuery,
  AuditStore,
  AuditSummary,
} from "../../domain/event/audit-ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import { type CallScope, PLATFORM_TENANT, scopeWith, type TenantId } from "../../domain/kernel/scope.ts"
import type { ByTenant } from "../../domain/kernel/tenant-classes.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { createGroupCommit, type GroupCommit } from "../group-commit.ts"
import { appendAudit, requireStorableEntries } from "./audit-append.ts"
import {
  AUDIT_BYTES,
  AUDIT_COLUMNS,
  type AuditRow,
  auditWhere,
  type DayRow,
  dayOf,
  recordOf,
} from "./audit-rows.ts"
import { summarizeAudit } from "./audit-summary.ts"
import type { Database } from "./database.ts"
import { lockedStep } from "./partitions.ts"
import { type SizedRow, sizedPageSql, sizedRows } from "./sized-page.ts"
import { classColumns, classValueSql } from "./tenant-classes.ts"

/** How {@link createPostgresAuditStore} works. */
export interface PostgresAuditStoreOptions {
  /** Tells the time of recording. */
  readonly clock?: Clock | undefined
  /** Groups of different tenants that may be written at once. Default: 1, right for an engine with one connection. */
  readonly concurrency?: number | undefined
}

/** An {@link AuditStore} over `database`. */
export function createPostgresAuditStore(
  database: Database,
  options: PostgresAuditStoreOptions = {},
): AuditStore {
  return new PostgresAuditStore(database, options)
}

const DAY_COLUMNS = `d.day::text as day, d.records, d.prev_hash, d.head, d.retired_at is not null as retired,
  coalesce((select max(a.seq) from audit_records a where a.tenant = d.tenant and a.day = d.day), 0) as last`

class PostgresAuditStore implements AuditStore {
  readonly #database: Database
  readonly #clock: Clock
  readonly #groups: GroupCommit<readonly AuditEntry[], readonly AuditReceipt[]>

  constructor(database: Database, options: PostgresAuditStoreOptions) {
    this.#database = database
    this.#clock = options.clock ?? systemClock
    this.#groups = createGroupCommit({
      key: (scope) => scope.tenant,
      maxItems: AUDIT_BATCH_MAX,
      maxBytes: 4 * 1024 * 1024,
      bytes: (entries) => entries.length * TYPICAL_BYTES,
      concurrency: options.concurrency ?? 1,
      run: (scope, batches) => this.#recordGroup(scope, batches),
    })
  }

  async record(scope: CallScope, entries: readonly AuditEntry[]): Promise<readonly AuditReceipt[]> {
    requireLive(scope)
    requireStorableEntries(entries)
    if (scope.idempotency === undefined) return this.#groups.add(scope, entries)
    return this.#database.mutate(scope, "audit.record", (tx) => appendAudit(tx, entries, this.#clock.now()))
  }

  async #recordGroup(scope: CallScope, batches: readonly (readonly AuditEntry[])[]) {
    const receipts = await this.#database.transaction(scope, (tx) =>
      appendAudit(tx, batches.flat(), this.#clock.now()),
    )
    let start = 0
    return batches.map((batch) => {
      start += batch.length
      return { ok: true as const, value: receipts.slice(start - batch.length, start) }
    })
  }

  async query(scope: CallScope, query: AuditQuery, page: PageRequest): Promise<Page<AuditRecord>> {
    const values: unknown[] = [scope.tenant, page.size + 1]
    let where = auditWhere(query, values)
    if (page.cursor !== undefined) {
      const [timeMs, day, sequence] = page.cursor
      const place = [new Date(Number(timeMs)), day, sequence].map((value) => values.push(value))
      where += ` and (a.time, a.day, a.seq) < ($${place[0]}::timestamptz, $${place[1]}::date, $${place[2]}::bigint)`
    }
    const { rows } = await this.#database.query<AuditRow & SizedRow>(scope, {
      text: sizedPageSql({
        table: "audit_records",
        alias: "a",
        columns: AUDIT_COLUMNS,
        where,
        order: "a.time desc, a.day desc, a.seq desc",
        bytes: AUDIT_BYTES,
        limit: "$2",
        maxBytes: MAX_AUDIT_BYTES,
      }),
      values,
    })
    const found = sizedRows(rows, page.size)
    const items = found.items.map(recordOf)
    const last = items.at(-1)
    if (!found.more || last === undefined) return { items }
    return { items, next: [String(last.timeMs), last.day, String(last.sequence)] }
  }

  summarize(scope: CallScope, query: AuditQuery, period: AuditPeriod, top: number): Promise<AuditSummary> {
    return summarizeAudit(this.#database, scope, query, period, top)
  }

  async scan(
    scope: CallScope,
    query: AuditQuery,
    after: AuditPosition | undefined,
    limit: number,
  ): Promise<readonly AuditRecord[]> {
    const values: unknown[] = [scope.tenant, limit]
    let where = auditWhere(query, values)
    if (after !== undefined) {
      const place = [after.day, after.sequence].map((value) => values.push(value))
      where += ` and (a.day, a.seq) > ($${place[0]}::date, $${place[1]}::bigint)`
    }
    const { rows } = await this.#database.query<AuditRow>(scope, {
      text: `select ${AUDIT_COLUMNS} from audit_records a where ${where} order by a.day, a.seq limit $2`,
      values,
    })
    return rows.map(recordOf)
  }

  async days(
    scope: CallScope,
    startDay: string | undefined,
    endDay: string | undefined,
    limit: number,
  ): Promise<readonly AuditDayHead[]> {
    const { rows } = await this.#database.query<DayRow>(scope, {
      name: "audit_days",
      text: `select ${DAY_COLUMNS} from audit_days d where d.tenant = $1
          and ($2::date is null or d.day >= $2::date) and ($3::date is null or d.day <= $3::date)
        order by d.day limit $4`,
      values: [scope.tenant, startDay, endDay, limit],
    })
    return rows.map(dayOf)
  }

  async dayBefore(scope: CallScope, day: string): Promise<AuditDayHead | undefined> {
    const { rows } = await this.#database.query<DayRow>(scope, {
      name: "audit_day_before",
      text: `select ${DAY_COLUMNS} from audit_days d where d.tenant = $1 and d.day < $2::date order by d.day desc limit 1`,
      values: [scope.tenant, day],
    })
    return rows[0] === undefined ? undefined : dayOf(rows[0])
  }

  async chainHead(scope: CallScope): Promise<AuditChainHead | undefined> {
    const { rows } = await this.#database.query<{ day: string; records: bigint; head: Buffer }>(scope, {
      name: "audit_chain_head",
      text: "select c.day::text as day, c.records, c.head from audit_chains c where c.tenant = $1",
      values: [scope.tenant],
    })
    return rows[0]
  }

  async chain(
    scope: CallScope,
    day: string,
    afterSequence: bigint,
    limit: number,
  ): Promise<readonly AuditRecord[]> {
    const { rows } = await this.#database.query<AuditRow>(scope, {
      name: "audit_chain",
      text: `select ${AUDIT_COLUMNS} from audit_records a
        where a.tenant = $1 and a.day = $2::date and a.seq > $3 order by a.seq limit $4`,
      values: [scope.tenant, day, afterSequence, limit],
    })
    return rows.map(recordOf)
  }

  async findHash(scope: CallScope, day: string, hash: Uint8Array): Promise<bigint | undefined> {
    const { rows } = await this.#database.query<{ seq: bigint }>(scope, {
      name: "audit_find_hash",
      text: "select a.seq from audit_records a where a.tenant = $1 and a.day = $2::date and a.hash = $3 limit 1",
      values: [scope.tenant, day, hash],
    })
    return rows[0]?.seq
  }

  async retire(scope: CallScope, before: ByTenant<string>, limit: number): Promise<number> {
    if (scope.tenant !== PLATFORM_TENANT) return this.#retireDays(scope, before.of(scope.tenant), limit)
    // Whole partitions belong to all tenants. What had its locks held up is taken by the next run.
    const [all = before.others] = before.values.toSorted()
    let gone = await this.#dropPartition(scope, all)
    if (gone >= limit) return gone
    if (before.classes.length === 0) return gone + (await this.#retireDays(scope, all, limit - gone))
    for (const tenant of await this.#overdue(scope, before, limit - gone)) {
      if (gone < limit)
        gone += await this.#retireDays(scopeWith(scope, { tenant }), before.of(tenant), limit - gone)
    }
    return gone
  }

  #retireDays(scope: CallScope, day: string, limit: number): Promise<number> {
    // The function runs with the owner's rights: this role cannot delete.
    return this.#database.transaction(scope, async (tx) => {
      const { rows } = await tx.query<{ gone: number }>({
        name: "audit_retire",
        text: "select audit_retire_days($1::date, $2) as gone",
        values: [day, limit],
      })
      return rows[0]?.gone ?? 0
    })
  }

  /** Tenants with days to retire, those with the oldest first. */
  async #overdue(scope: CallScope, before: ByTenant<string>, limit: number): Promise<readonly TenantId[]> {
    const { rows } = await this.#database.query<{ tenant: TenantId }>(scope, {
      name: "audit_overdue",
      text: `select d.tenant from audit_days d where d.retired_at is null
          and d.day < coalesce(${classValueSql("d.tenant", "$3::text[]", "$4::date[]")}, $2::date)
          and d.day < ((now() at time zone 'utc') - interval '7 years')::date
          and not exists (select from audit_chains c where c.tenant = d.tenant and c.day = d.day)
        group by d.tenant order by min(d.day), d.tenant limit $1`,
      values: [limit, before.others, ...classColumns(before)],
    })
    return rows.map(({ tenant }) => tenant)
  }

  async #dropPartition(scope: CallScope, day: string): Promise<number> {
    const text = "select audit_drop_partition($1::date) as step"
    return (await lockedStep<number>(this.#database, scope, { text, values: [day] })) ?? 0
  }
}

/** What a record weighs, roughly; the request's own limits bound it for good. */
const TYPICAL_BYTES = 1024
