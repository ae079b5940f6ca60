/** Reservations: quantities set aside under a lock per meter, so that many at once never pass a budget together. */
import { randomUUID } from "node:crypto"
import {
  type MeterQuantity,
  type Reservation,
  SETTLE_AFTER_EXPIRY_MS,
  type UsageEvent,
} from "../../domain/billing/model.ts"
import { periodBounds } from "../../domain/billing/period.ts"
import type { ReserveInput, ReserveResult, SettleInput } from "../../domain/billing/ports.ts"
import { normalQuantity } from "../../domain/billing/quantity.ts"
import { usageHash } from "../../domain/billing/usage-content.ts"
import { DomainError, invalidField, notFound } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type BudgetStatusRow, withStatus } from "./budget-rows.ts"
import type { Database, Tx } from "./database.ts"
import { insertUsage } from "./usage-insert.ts"

interface ReservationRow {
  readonly reservation_id: string
  readonly meter: string
  readonly quantity: string
  readonly agent_id: string
  readonly user_id: string
  readonly session_id: string
  readonly state: "ACTIVE" | "SETTLED" | "RELEASED"
  readonly settled: string | null
  readonly create_time: Date
  readonly expire_time: Date
}

/** See the port. Waits for other reservations of the same meters. */
export async function reserve(tx: Tx, input: ReserveInput, now: Date): Promise<ReserveResult> {
  const { tenant } = tx.scope
  await lockMeters(tx, input.items)
  // A statement of its own, for only then does it see what was committed while it waited for the lock.
  const exceeded = await exceededBudgets(tx, input, now)
  const hard = exceeded.find((row) => row.hard)
  if (hard !== undefined) throw budgetExceeded(hard, now)
  const id = randomUUID()
  const { agentId, userId, sessionId } = input.subject
  const { rows } = await tx.query<ReservationRow>({
    name: "kp_reserve",
    text: `insert into keelplane.usage_reservations
        (tenant, reservation_id, meter, quantity, agent_id, user_id, session_id, state, create_time, expire_time)
      select $1, $2, i.meter, i.quantity, $5, $6, $7, 'ACTIVE', $8, $9
      from unnest($3::text[], $4::numeric[]) as i (meter, quantity) order by i.meter collate "C" returning *`,
    values: [
      tenant,
      id,
      ...columns(input.items),
      agentId,
      userId,
      sessionId,
      now,
      new Date(input.expireTime),
    ],
  })
  return { reservation: reservationOf(id, rows, now), exceededSoftBudgetIds: exceeded.map((row) => row.id) }
}

/** In the order of the keys, so that two reservations of several meters never wait for each other. */
async function lockMeters(tx: Tx, items: readonly MeterQuantity[]): Promise<void> {
  await tx.query({
    name: "kp_reserve_lock",
    text: `select pg_advisory_xact_lock(m.key) from (
        select distinct hashtextextended($1 || ':' || meter, 6000) as key from unnest($2::text[]) as u (meter) order by 1
      ) m`,
    values: [tx.scope.tenant, items.map(({ meter }) => meter)],
  })
}

type ExceededRow = BudgetStatusRow & { readonly requested: string }

/** The budgets that have less left than is asked for, the soft ones too. */
async function exceededBudgets(tx: Tx, input: ReserveInput, now: Date): Promise<readonly ExceededRow[]> {
  const { agentId, userId, sessionId } = input.subject
  const values: unknown[] = [tx.scope.tenant, ...columns(input.items), agentId, userId, sessionId]
  const { rows } = await tx.query<ExceededRow>({
    text: `select s.*, i.quantity::text as requested
      from (${withStatus(values, now.getTime(), now)} and b.meter = any ($2::text[])
        and (b.subject_kind, b.subject_id) in (('', ''), ('agent', $4::text), ('user', $5::text), ('session', $6::text))) s
      join unnest($2::text[], $3::numeric[]) as i (meter, quantity) on i.meter = s.meter
      where s.used::numeric + s.reserved::numeric + i.quantity > s.amount order by s.id`,
    values,
  })
  return rows
}

function columns(items: readonly MeterQuantity[]): [string[], string[]] {
  return [items.map(({ meter }) => meter), items.map(({ quantity }) => quantity)]
}

function budgetExceeded(row: ExceededRow, now: Date): DomainError {
  const remaining = normalQuantity(row.remaining)
  const bounds = periodBounds(row.period, now.getTime())
  return new DomainError(
    "BUDGET_EXCEEDED",
    `budget "${row.id}" has ${remaining} of ${row.meter} left, ${normalQuantity(row.requested)} were asked for`,
    {
      metadata: {
        budget: row.id,
        meter: row.meter,
        limit: normalQuantity(row.amount),
        used: normalQuantity(row.used),
        reserved: normalQuantity(row.reserved),
        remaining,
        requested: normalQuantity(row.requested),
        ...(bounds === undefined ? {} : { period_end_time: new Date(bounds.endTime).toISOString() }),
      },
    },
  )
}

/** See the port. */
export async function settle(tx: Tx, id: string, input: SettleInput, now: Date): Promise<Reservation> {
  const rows = await lockReservation(tx, id, now)
  const used = new Map(input.items.map(({ meter, quantity }) => [meter, normalQuantity(quantity)]))
  for (const [at, { meter }] of input.items.entries()) {
    if (!rows.some((row) => row.meter === meter)) {
      throw invalidField(`items[${at}].meter`, "is not part of the reservation")
    }
  }
  const [first] = rows
  if (first?.state === "RELEASED") throw wrongState(id, "RELEASED")
  if (first?.state === "SETTLED") {
    if (rows.some((row) => settledOf(row) !== used.get(row.meter))) throw wrongState(id, "SETTLED")
    return reservationOf(id, rows, now)
  }
  const events = rows.flatMap((row) => usageOf(row, used.get(row.meter), input))
  const recorded = await insertUsage(
    tx,
    events.map((event) => ({ event, hash: usageHash(event) })),
    now,
  )
  // The row's lock makes this the only settlement, and callers may not use these ids.
  if (recorded !== events.length) throw new DomainError("INTERNAL", "internal error")
  const settled = await tx.query<ReservationRow>({
    name: "kp_settle",
    text: `update keelplane.usage_reservations r set state = 'SETTLED',
        settled = (select i.quantity from unnest($3::text[], $4::numeric[]) as i (meter, quantity) where i.meter = r.meter)
      where tenant = $1 and reservation_id = $2 returning *`,
    values: [tx.scope.tenant, id, [...used.keys()], [...used.values()]],
  })
  return reservationOf(id, settled.rows, now)
}

function usageOf(row: ReservationRow, quantity: string | undefined, input: SettleInput): UsageEvent[] {
  if (quantity === undefined) return []
  const eventId = `keelplane.reservation/${row.reservation_id}/${row.meter}`
  const subject = { agentId: row.agent_id, userId: row.user_id, sessionId: row.session_id }
  return [
    {
      eventId,
      meter: row.meter,
      quantity,
      eventTime: input.eventTime,
      subject,
      dimensions: input.dimensions,
    },
  ]
}

/** See the port. */
export async function release(tx: Tx, id: string, now: Date): Promise<Reservation> {
  const rows = await lockReservation(tx, id, now)
  const state = rows[0]?.state
  if (state === "SETTLED") throw wrongState(id, state)
  if (state === "RELEASED") return reservationOf(id, rows, now)
  const released = await tx.query<ReservationRow>({
    name: "kp_release",
    text: `update keelplane.usage_reservations set state = 'RELEASED'
      where tenant = $1 and reservation_id = $2 returning *`,
    values: [tx.scope.tenant, id],
  })
  return reservationOf(id, released.rows, now)
}

/** Deletes what can be settled no more. */
export async function sweepReservations(
  database: Database,
  scope: CallScope,
  now: Date,
  limit: number,
): Promise<number> {
  const { count } = await database.query(scope, {
    name: "kp_reservations_sweep",
    text: `delete from keelplane.usage_reservations where (tenant, reservation_id, meter) in (
      select tenant, reservation_id, meter from keelplane.usage_reservations
        where (tenant = $3 or $3 = '*') and expire_time <= $1
      order by expire_time limit $2 for update skip locked)`,
    values: [new Date(now.getTime() - SETTLE_AFTER_EXPIRY_MS), limit, scope.tenant],
  })
  return count
}

async function lockReservation(tx: Tx, id: string, now: Date): Promise<readonly ReservationRow[]> {
  const { rows } = await tx.query<ReservationRow>({
    name: "kp_reservation_lock",
    text: `select * from keelplane.usage_reservations
      where tenant = $1 and reservation_id = $2 and expire_time > $3 order by meter for update`,
    values: [tx.scope.tenant, id, new Date(now.getTime() - SETTLE_AFTER_EXPIRY_MS)],
  })
  if (rows.length === 0) throw notFound("reservation", id)
  return rows
}

function wrongState(id: string, state: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `reservation "${id}" is ${state.toLowerCase()} already`, {
    metadata: { resource: "reservation", name: id, state },
  })
}

function settledOf(row: ReservationRow): string | undefined {
  return row.settled === null ? undefined : normalQuantity(row.settled)
}

function reservationOf(id: string, unordered: readonly ReservationRow[], now: Date): Reservation {
  const rows = [...unordered].sort((a, b) => Buffer.compare(Buffer.from(a.meter), Buffer.from(b.meter)))
  const [first] = rows
  if (first === undefined) throw notFound("reservation", id)
  const expired = first.state === "ACTIVE" && first.expire_time <= now
  return {
    id,
    items: rows.map(({ meter, quantity }) => ({ meter, quantity: normalQuantity(quantity) })),
    state: expired ? "EXPIRED" : first.state,
    createTime: first.create_time.getTime(),
    expireTime: first.expire_time.getTime(),
    settledItems: rows.flatMap((row) => {
      const quantity = settledOf(row)
      return quantity === undefined ? [] : [{ meter: row.meter, quantity }]
    }),
  }
}
