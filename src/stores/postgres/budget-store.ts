/** Budgets in PostgreSQL. */
import type { Budget, BudgetFields, BudgetView } from "../../domain/billing/model.ts"
import type { BudgetStore } from "../../domain/billing/ports.ts"
import { notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type BudgetRow, type BudgetStatusRow, budgetOf, viewOf, withStatus } from "./budget-rows.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { pageOf } from "./control-resource.ts"
import type { Tx } from "./database.ts"
import { release, reserve, settle, sweepReservations } from "./usage-reservations.ts"

/** The budget store. Budgets are administration and leave an audit record; reservations are traffic and leave none. */
export function createBudgetStore(deps: ControlDeps): BudgetStore {
  const { database, clock } = deps
  const audited = (action: string, id: string) => ({ action, kind: "budget", id })
  const now = (): Date => new Date(clock.now())
  return {
    set: (scope, budget, ifRevision) =>
      controlMutation(deps, scope, audited("SetBudget", budget.id), (tx, at) =>
        set(tx, budget, ifRevision, at),
      ),
    get: (scope, id, time) => get(deps, scope, id, time ?? clock.now()),
    list: (scope, meter, page) => list(deps, scope, meter, page),
    delete: (scope, id, ifRevision) =>
      controlMutation(deps, scope, audited("DeleteBudget", id), async (tx) => {
        const revision = await lockRevision(tx, id)
        if (revision === 0n) throw notFound("budget", id)
        if (ifRevision !== undefined && ifRevision !== revision) {
          throw revisionMismatch("budget", id, ifRevision, revision)
        }
        await tx.query({
          text: "delete from keelplane.budgets where tenant = $1 and id = $2",
          values: [scope.tenant, id],
        })
      }),
    reserve: (scope, input) => database.mutate(scope, "usage.reserve", (tx) => reserve(tx, input, now())),
    settle: (scope, id, input) =>
      database.mutate(scope, "usage.settle", (tx) => settle(tx, id, input, now())),
    release: (scope, id) => database.mutate(scope, "usage.release", (tx) => release(tx, id, now())),
    sweep: (scope, limit) => sweepReservations(database, scope, now(), limit),
  }
}

async function set(tx: Tx, budget: BudgetFields, ifRevision: bigint | undefined, now: Date): Promise<Budget> {
  const { tenant } = tx.scope
  // Two that create one budget at once must meet somewhere, and an absent row cannot be locked.
  await tx.query({
    name: "kp_budget_lock",
    text: "select pg_advisory_xact_lock(hashtextextended($1 || ':' || $2, 6001))",
    values: [tenant, budget.id],
  })
  const revision = await lockRevision(tx, budget.id)
  if (ifRevision !== undefined && ifRevision !== revision) {
    throw revisionMismatch("budget", budget.id, ifRevision, revision)
  }
  const { rows } = await tx.query<BudgetRow>({
    text: `insert into keelplane.budgets as b (tenant, id, meter, period, amount, hard, subject_kind, subject_id, thresholds,
        revision, create_time, update_time)
      values ($1, $2, $3, $4, $5::numeric, $6, $7, $8, $9::int[], 1, $10, $10)
      on conflict (tenant, id) do update set meter = excluded.meter, period = excluded.period, amount = excluded.amount,
        hard = excluded.hard, subject_kind = excluded.subject_kind, subject_id = excluded.subject_id,
        thresholds = excluded.thresholds, revision = b.revision + 1,
        update_time = greatest(b.update_time, excluded.update_time)
      returning *`,
    values: [
      tenant,
      budget.id,
      budget.meter,
      budget.period,
      budget.limit,
      budget.hard,
      budget.subject.kind,
      budget.subject.id,
      budget.thresholds,
      now,
    ],
  })
  const [row] = rows
  if (row === undefined) throw notFound("budget", budget.id)
  return budgetOf(row)
}

/** 0 where there is no such budget. */
async function lockRevision(tx: Tx, id: string): Promise<bigint> {
  const { rows } = await tx.query<{ revision: bigint }>({
    text: "select revision from keelplane.budgets where tenant = $1 and id = $2 for update",
    values: [tx.scope.tenant, id],
  })
  return rows[0]?.revision ?? 0n
}

async function get(
  { database, clock }: ControlDeps,
  scope: CallScope,
  id: string,
  time: number,
): Promise<BudgetView> {
  const values: unknown[] = [scope.tenant, id]
  const { rows } = await database.query<BudgetStatusRow>(scope, {
    text: `${withStatus(values, time, new Date(clock.now()))} and b.id = $2`,
    values,
  })
  const [row] = rows
  if (row === undefined) throw notFound("budget", id)
  return viewOf(row, time)
}

async function list(
  { database, clock }: ControlDeps,
  scope: CallScope,
  meter: string | undefined,
  page: PageRequest,
): Promise<Page<BudgetView>> {
  const now = clock.now()
  const values: unknown[] = [scope.tenant, page.cursor?.[0] ?? "", meter, page.size + 1]
  const { rows } = await database.query<BudgetStatusRow>(scope, {
    text: `${withStatus(values, now, new Date(now))} and b.id > $2 and ($3::text is null or b.meter = $3)
      order by b.id limit $4`,
    values,
  })
  return pageOf(
    rows.map((row) => viewOf(row, now)),
    page.size,
    (last) => [last.budget.id],
  )
}
