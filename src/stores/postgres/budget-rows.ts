/** Budgets as rows, and how they stand. */
import type {
  Budget,
  BudgetPeriod,
  BudgetStatus,
  BudgetSubject,
  BudgetView,
} from "../../domain/billing/model.ts"
import { periodBounds } from "../../domain/billing/period.ts"
import { normalQuantity } from "../../domain/billing/quantity.ts"

/** A row of budgets. */
export interface BudgetRow {
  readonly id: string
  readonly meter: string
  readonly period: BudgetPeriod
  readonly amount: string
  readonly hard: boolean
  readonly subject_kind: BudgetSubject["kind"]
  readonly subject_id: string
  readonly thresholds: readonly number[]
  readonly revision: bigint
  readonly create_time: Date
  readonly update_time: Date
}

/** A row with what {@link withStatus} adds. */
export interface BudgetStatusRow extends BudgetRow {
  readonly used: string
  readonly reserved: string
  readonly remaining: string
  readonly exceeded: boolean
  readonly reached: readonly number[]
}

/**
 * Budgets `b` with what is used in the period that holds a time and what is reserved now. One statement, hence one snapshot: a
 * reservation that is being settled counts exactly once.
 * @param values gets the parameters; $1 must be the tenant.
 */
export function withStatus(values: unknown[], time: number, now: Date): string {
  const day = periodBounds("DAY", time)
  const month = periodBounds("MONTH", time)
  const date = (ms: number | undefined): string =>
    `$${values.push(new Date(ms ?? 0).toISOString().slice(0, 10))}::date`
  const bound = (edge: "startTime" | "endTime", open: string): string =>
    `case b.period when 'DAY' then ${date(day?.[edge])} when 'MONTH' then ${date(month?.[edge])} else '${open}'::date end`
  return `select b.*, u.used::text as used, r.reserved::text as reserved,
      greatest(b.amount - u.used - r.reserved, 0)::text as remaining, u.used > b.amount as exceeded,
      array(select t from unnest(b.thresholds) t where u.used * 100 >= b.amount * t order by t) as reached
    from keelplane.budgets b
    cross join lateral (
      select coalesce(sum(d.quantity), 0) as used from keelplane.usage_days d
      where d.tenant = $1 and d.meter = b.meter and d.subject_kind = b.subject_kind and d.subject_id = b.subject_id
        and d.day >= ${bound("startTime", "-infinity")} and d.day < ${bound("endTime", "infinity")}
    ) u
    cross join lateral (
      select coalesce(sum(q.quantity), 0) as reserved from keelplane.usage_reservations q
      where q.tenant = $1 and q.meter = b.meter and q.state = 'ACTIVE' and q.expire_time > $${values.push(now)}::timestamptz
        and (case b.subject_kind when '' then '' when 'agent' then q.agent_id when 'user' then q.user_id
          else q.session_id end) = b.subject_id
    ) r
    where b.tenant = $1`
}

/** The row as a budget. */
export function budgetOf(row: BudgetRow): Budget {
  return {
    id: row.id,
    meter: row.meter,
    period: row.period,
    limit: normalQuantity(row.amount),
    hard: row.hard,
    subject: { kind: row.subject_kind, id: row.subject_id },
    thresholds: row.thresholds,
    revision: row.revision,
    createTime: row.create_time.getTime(),
    updateTime: row.update_time.getTime(),
  }
}

/** The row as a budget with its status in the period that holds `time`. */
export function viewOf(row: BudgetStatusRow, time: number): BudgetView {
  const status: BudgetStatus = {
    bounds: periodBounds(row.period, time),
    used: normalQuantity(row.used),
    reserved: normalQuantity(row.reserved),
    remaining: normalQuantity(row.remaining),
    reachedThresholds: row.reached,
    exceeded: row.exceeded,
  }
  return { budget: budgetOf(row), status }
}
