/** Audit records by the time they tell of. Written after the record; the log knows up to which record that is done. */

import { utcDay } from "../../domain/event/audit-chain.ts"
import type { AuditOutcome, AuditRecord } from "../../domain/event/audit-model.ts"
import type { AuditQuery } from "../../domain/event/audit-ports.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { AuditEntryRow } from "./audit-rows.ts"
import type { Cluster } from "./database.ts"

/** A place in the order of queries: latest time first, then latest recorded. */
export interface AuditPlace {
  readonly timeMs: number
  readonly day: string
  readonly sequence: bigint
}

/** Below zero where `a` comes before `b` in answers. */
export function byTime(a: AuditPlace, b: AuditPlace): number {
  if (a.timeMs !== b.timeMs) return b.timeMs - a.timeMs
  if (a.day !== b.day) return a.day > b.day ? -1 : 1
  return a.sequence === b.sequence ? 0 : a.sequence > b.sequence ? -1 : 1
}

interface TimeRow {
  readonly time: Date
  readonly day: string
  readonly seq: bigint
  readonly segment: string
  readonly actor: string
  readonly action: string
  readonly resource_type: string
  readonly resource_id: string
  readonly outcome: AuditOutcome
}

/** Most rows in one batch. */
const BATCH_ROWS = 100
const PAGE_ROWS = 500
/** Most days that are remembered as being on the list. */
const REMEMBERED = 20_000
/** After every time that a record may have. */
const END_MS = Date.UTC(10_000, 0, 1)

/** Reads and writes the tables. */
export class AuditIndex {
  readonly #cql: Cluster
  readonly #listed = new Set<string>()

  constructor(cql: Cluster) {
    this.#cql = cql
  }

  /** Files records of a segment; again where it was done before, to the same effect. */
  async file(scope: CallScope, segment: string, records: readonly AuditRecord[]): Promise<void> {
    const days = Map.groupBy(records, ({ timeMs }) => utcDay(timeMs))
    for (const [day, own] of days) {
      await this.#list(scope, day)
      for (let at = 0; at < own.length; at += BATCH_ROWS) {
        const rows = own.slice(at, at + BATCH_ROWS).map((record) => ({
          cql: `insert into audit_by_time (tenant, time_day, time, day, seq, segment, actor, action, resource_type,
              resource_id, outcome) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          values: [
            scope.tenant,
            day,
            new Date(record.timeMs),
            record.day,
            record.sequence,
            segment,
            record.actor,
            record.action,
            record.resourceType,
            record.resourceId,
            record.outcome,
          ],
        }))
        await this.#cql.batch(scope, rows)
      }
    }
  }

  /** Takes records away that retention removes. */
  async unfile(scope: CallScope, records: readonly AuditRecord[]): Promise<void> {
    const days = Map.groupBy(records, ({ timeMs }) => utcDay(timeMs))
    for (const [day, own] of days) {
      for (let at = 0; at < own.length; at += BATCH_ROWS) {
        const rows = own.slice(at, at + BATCH_ROWS).map((record) => ({
          cql: "delete from audit_by_time where tenant = ? and time_day = ? and time = ? and day = ? and seq = ?",
          values: [scope.tenant, day, new Date(record.timeMs), record.day, record.sequence],
        }))
        await this.#cql.batch(scope, rows)
      }
    }
  }

  /** Filed records in the query's range of time, in the order of answers, from after `cursor`. */
  async *walk(
    scope: CallScope,
    { startMs = 0, endMs = END_MS }: AuditQuery,
    cursor: AuditPlace | undefined,
  ): AsyncGenerator<readonly AuditEntryRow[]> {
    const upper = Math.min(endMs, END_MS)
    const from =
      cursor === undefined || cursor.timeMs >= upper ? { timeMs: upper, day: "", sequence: 0n } : cursor
    const days = this.#cql.pages<{ time_day: string }>(scope, {
      cql: "select time_day from audit_time_days where tenant = ? and time_day >= ? and time_day <= ?",
      values: [
        scope.tenant,
        utcDay(Math.max(startMs, 0)),
        from.timeMs >= END_MS ? LAST_DAY : utcDay(from.timeMs),
      ],
    })
    for await (const page of days) {
      for (const { time_day } of page) {
        const rows = this.#cql.pages<TimeRow>(
          scope,
          {
            cql: `select time, day, seq, segment, actor, action, resource_type, resource_id, outcome from audit_by_time
              where tenant = ? and time_day = ? and (time, day, seq) < (?, ?, ?) and (time) >= (?)`,
            values: [
              scope.tenant,
              time_day,
              new Date(from.timeMs),
              from.day,
              from.sequence,
              new Date(Math.max(startMs, 0)),
            ],
          },
          { pageRows: PAGE_ROWS },
        )
        for await (const found of rows) yield found.map(entryOf)
      }
    }
  }

  async #list(scope: CallScope, day: string): Promise<void> {
    const key = `${scope.tenant} ${day}`
    if (this.#listed.has(key)) return
    await this.#cql.write(scope, {
      cql: "insert into audit_time_days (tenant, time_day) values (?, ?)",
      values: [scope.tenant, day],
    })
    if (this.#listed.size >= REMEMBERED) this.#listed.clear()
    this.#listed.add(key)
  }
}

const LAST_DAY = "9999-12-31"

function entryOf(row: TimeRow): AuditEntryRow {
  return {
    timeMs: row.time.getTime(),
    day: row.day,
    sequence: row.seq,
    segment: row.segment,
    actor: row.actor,
    action: row.action,
    resourceType: row.resource_type,
    resourceId: row.resource_id,
    outcome: row.outcome,
  }
}
