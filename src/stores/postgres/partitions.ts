/** Tables that are cut by time: partitions made ahead of it and dropped behind it. docs/adr has which are, and why. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Statement } from "./database.ts"
import { serverError } from "./errors.ts"
import { platformScope } from "./platform-scope.ts"

/** Periods (days or months, by the table) for which partitions are made beforehand. */
export const PARTITIONS_AHEAD = 3

const LOCK_NOT_AVAILABLE = "55P03"
/** A run makes or drops no more; the next one goes on. */
const MOST_PER_RUN = 64

/**
 * Makes the partitions that are missing from today to `ahead` periods later, of all tables. Writers of other partitions do not
 * wait; where a lock is not to be had at once, it ends, and the next run goes on: meanwhile rows go to the default
 * partition. Answers how many it made.
 */
export function ensurePartitions(
  database: Database,
  scope: CallScope,
  nowMs: number,
  ahead: number = PARTITIONS_AHEAD,
): Promise<number> {
  return repeated(database, scope, {
    text: "select partitions_make_next($1::timestamptz, $2) as step",
    values: [new Date(nowMs), ahead],
  })
}

/**
 * Drops the partitions of `table` whose whole time lies before `beforeMs`; those of a table whose rows must be gone first only
 * when they are. A drop waits for readers and writers of the table a quarter of a second at most, and holds them up for
 * a catalogue change only. Answers how many went.
 */
export function dropExpired(
  database: Database,
  scope: CallScope,
  table: string,
  beforeMs: number,
): Promise<number> {
  return repeated(database, scope, {
    text: "select partitions_drop_next($1, $2::date) as step",
    values: [table, dayOf(beforeMs)],
  })
}

/** Drops the days of the outbox that ended by `nowMs`; what is not done yet moves out of them. As {@link dropExpired}. */
export function dropOutboxDays(database: Database, scope: CallScope, nowMs: number): Promise<number> {
  return repeated(database, scope, {
    text: "select outbox_drop_day($1::date) as step",
    values: [dayOf(nowMs)],
  })
}

/**
 * Runs one step in a transaction of its own and answers what it did; undefined where it could not have its locks in time, in
 * which case nothing was done.
 */
export async function lockedStep<T>(
  database: Database,
  scope: CallScope,
  statement: Statement,
): Promise<T | undefined> {
  try {
    const { rows } = await database.transaction(platformScope(scope), (tx) =>
      tx.query<{ step: T }>(statement),
    )
    return rows[0]?.step
  } catch (error) {
    if (serverError(error)?.code === LOCK_NOT_AVAILABLE) return undefined
    throw error
  }
}

async function repeated(database: Database, scope: CallScope, statement: Statement): Promise<number> {
  let steps = 0
  while (steps < MOST_PER_RUN && (await lockedStep<boolean>(database, scope, statement)) === true) steps++
  return steps
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
