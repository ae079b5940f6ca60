/** Adding to the outbox inside the transaction that owes the effect. */
import { limitExceeded } from "../../domain/kernel/errors.ts"
import { type NewOutboxEntry, OUTBOX_PAYLOAD_MAX_BYTES } from "../../domain/outbox/model.ts"
import type { Statement, Tx } from "./database.ts"

/**
 * Adds `entries` with the commit of `tx`, which costs no round trip. The order within a key is that of the commits when all
 * writers of the key hold a common lock by then, such as the row's that the entry is about. Tell the relay after the commit
 * (OutboxSignals.committed). Entries that name no trace are of the transaction's. Throws LIMIT_EXCEEDED for a payload that is too large.
 */
export function appendOutbox(tx: Tx, entries: readonly NewOutboxEntry[]): void {
  if (entries.length === 0) return
  const traceparent = tx.scope.trace?.traceparent
  tx.last([outboxStatement(entries.map((entry) => ({ traceparent, ...entry })))])
}

/** The statement behind {@link appendOutbox}, for plans that collect their writes. It belongs behind all that take locks. */
export function outboxStatement(entries: readonly NewOutboxEntry[]): Statement {
  for (const { payload } of entries) {
    if (payload.byteLength > OUTBOX_PAYLOAD_MAX_BYTES)
      throw limitExceeded("outbox_payload", payload.byteLength, OUTBOX_PAYLOAD_MAX_BYTES)
  }
  const [first] = entries
  if (entries.length === 1 && first !== undefined) return appendOne(first)
  const column = <T>(pick: (entry: NewOutboxEntry) => T): T[] => entries.map(pick)
  return {
    name: "outbox_append",
    text: `insert into keelplane.outbox (topic, tenant, key, op_id, payload, trace_parent)
      select n.topic, n.tenant, n.key, n.op_id, n.payload, n.trace_parent
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[]) with ordinality
        as n(topic, tenant, key, op_id, payload, trace_parent, place) order by n.place`,
    values: [
      column(({ topic }) => topic),
      column(({ tenant }) => tenant),
      column(({ key }) => key),
      column(({ opId }) => opId),
      column(({ payload }) => bufferOf(payload)),
      column(({ traceparent }) => traceparent ?? ""),
    ],
  }
}

/** Most calls owe one effect; without arrays it costs the server a third less. */
function appendOne({ topic, tenant, key, opId, payload, traceparent }: NewOutboxEntry): Statement {
  return {
    name: "outbox_append_one",
    text: `insert into keelplane.outbox (topic, tenant, key, op_id, payload, trace_parent) values ($1, $2, $3, $4, $5, $6)`,
    values: [topic, tenant, key, opId, bufferOf(payload), traceparent ?? ""],
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
