/** What becomes of claimed entries. */
import type { OutboxFault } from "../../domain/outbox/model.ts"
import type { OutboxSettlement, SettledBatch } from "../../domain/outbox/ports.ts"
import type { Statement } from "./database.ts"

const NOW = "coalesce($5::timestamptz, statement_timestamp())"
// In the days of the batch only, or each statement would look into every partition.
const OURS = "o.fence = $1 and o.created_at >= $3::timestamptz and o.created_at < $4::timestamptz"

/** Removes what is done and is still under the batch's fence. Answers how many in `gone`. */
export function doneStatement(batch: SettledBatch, done: readonly string[]): Statement {
  return {
    name: "outbox_done",
    text: "select keelplane.outbox_done($1, $2::bigint, $3::bigint[], $4::timestamptz, $5::timestamptz) as gone",
    values: [batch.topic, batch.fence, done, ...createdBetween(batch)],
    writes: true,
  }
}

/** A statement for each other kind of end that occurs; each touches only entries that are still under the batch's fence. */
export function settleStatements(
  batch: Pick<SettledBatch, "fence" | "entries">,
  { retry = [], park = [], release = [] }: OutboxSettlement,
  now: Date | null,
): readonly Statement[] {
  const { fence } = batch
  const [from, to] = createdBetween(batch)
  const statements: Statement[] = []
  if (retry.length > 0) {
    statements.push({
      name: "outbox_retry",
      text: `update keelplane.outbox o set fence = null, held_until = ${NOW} + n.delay * interval '1 ms',
          failures = o.failures + 1, strikes = o.strikes + n.strike, fault_reason = n.reason, fault_message = n.message
        from unnest($2::bigint[], $6::bigint[], $7::int[], $8::text[], $9::text[]) as n(id, delay, strike, reason, message)
        where o.id = n.id and ${OURS}`,
      values: [
        fence,
        retry.map(({ id }) => id),
        from,
        to,
        now,
        retry.map(({ delayMs }) => Math.ceil(delayMs)),
        retry.map(({ strike }) => (strike ? 1 : 0)),
        ...faultColumns(retry),
      ],
    })
  }
  if (park.length > 0) {
    statements.push({
      name: "outbox_park",
      text: `update keelplane.outbox o set fence = null, held_until = null, parked_at = ${NOW},
          failures = o.failures + 1, strikes = o.strikes + 1, fault_reason = n.reason, fault_message = n.message
        from unnest($2::bigint[], $6::text[], $7::text[]) as n(id, reason, message)
        where o.id = n.id and ${OURS}`,
      values: [fence, park.map(({ id }) => id), from, to, now, ...faultColumns(park)],
    })
  }
  if (release.length > 0) {
    statements.push({
      name: "outbox_release",
      text: `update keelplane.outbox o set fence = null, held_until = null where o.id = any($2::bigint[]) and ${OURS}`,
      values: [fence, release, from, to],
    })
  }
  return statements
}

/** When the entries were made, from and to; to all times where they are not known. A time of theirs has lost its microseconds. */
function createdBetween({ entries = [] }: Pick<SettledBatch, "entries">): readonly [string, string] {
  if (entries.length === 0) return ["-infinity", "infinity"]
  const times = entries.map(({ createdMs }) => createdMs)
  return [new Date(Math.min(...times)).toISOString(), new Date(Math.max(...times) + 1).toISOString()]
}

function faultColumns(items: readonly { readonly fault: OutboxFault }[]): readonly [string[], string[]] {
  // A message may quote what a caller sent, and that may hold what a database cannot.
  const storable = (text: string) => text.replaceAll("\u0000", "").toWellFormed()
  return [items.map(({ fault }) => storable(fault.reason)), items.map(({ fault }) => storable(fault.message))]
}
