/** What becomes of claimed entries. */
import type { OutboxFault } from "../../domain/outbox/model.ts"
import type { OutboxBatch, OutboxSettlement } from "../../domain/outbox/ports.ts"
import type { Statement } from "./database.ts"

const NOW = "coalesce($3::timestamptz, statement_timestamp())"

/** A statement for each kind of end that occurs; each touches only entries that are still under the batch's fence. */
export function settleStatements(
  { fence }: Pick<OutboxBatch, "fence">,
  { done = [], retry = [], park = [], release = [] }: OutboxSettlement,
  now: Date | null,
): readonly Statement[] {
  const statements: Statement[] = []
  if (done.length > 0) {
    statements.push({
      name: "outbox_done",
      text: "delete from keelplane.outbox where id = any($2::bigint[]) and fence = $1",
      values: [fence, done],
    })
  }
  if (retry.length > 0) {
    statements.push({
      name: "outbox_retry",
      text: `update keelplane.outbox o set fence = null, held_until = ${NOW} + n.delay * interval '1 ms',
          failures = o.failures + 1, strikes = o.strikes + n.strike, fault_reason = n.reason, fault_message = n.message
        from unnest($2::bigint[], $4::bigint[], $5::int[], $6::text[], $7::text[]) as n(id, delay, strike, reason, message)
        where o.id = n.id and o.fence = $1`,
      values: [
        fence,
        retry.map(({ id }) => id),
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
        from unnest($2::bigint[], $4::text[], $5::text[]) as n(id, reason, message)
        where o.id = n.id and o.fence = $1`,
      values: [fence, park.map(({ id }) => id), now, ...faultColumns(park)],
    })
  }
  if (release.length > 0) {
    statements.push({
      name: "outbox_release",
      text: "update keelplane.outbox set fence = null, held_until = null where id = any($2::bigint[]) and fence = $1",
      values: [fence, release],
    })
  }
  return statements
}

function faultColumns(items: readonly { readonly fault: OutboxFault }[]): readonly [string[], string[]] {
  // A message may quote what a caller sent, and that may hold what a database cannot.
  const storable = (text: string) => text.replaceAll("\u0000", "").toWellFormed()
  return [items.map(({ fault }) => storable(fault.reason)), items.map(({ fault }) => storable(fault.message))]
}
