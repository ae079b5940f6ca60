/**
 * Appending to the audit log inside a transaction, so that a mutation and its audit record are committed together or not
 * at all.
 */
import { AUDIT_GENESIS, chainEntries, utcDay } from "../../domain/event/audit-chain.ts"
import type { AuditEntry, AuditReceipt, AuditRecord } from "../../domain/event/audit-model.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Tx } from "./database.ts"
import { requireStorableJson } from "./values.ts"

/** One chain's newest day, locked until the transaction ends. */
interface Head {
  readonly day: string
  readonly records: bigint
  readonly prevHash: Uint8Array
  readonly head: Uint8Array
}

/**
 * Chains `entries` to the tenant's log and answers one receipt each, in order. Holds the tenant's chain until `tx` ends, so
 * it belongs at the end of the transaction's work. Rejects like `tx.query`.
 * @param nowMs the time of recording, milliseconds since the epoch.
 * @param tenant whose log; the transaction's own by default. Another one needs a platform scope.
 */
export async function appendAudit(
  tx: Tx,
  entries: readonly AuditEntry[],
  nowMs: number,
  tenant: TenantId = tx.scope.tenant,
): Promise<readonly AuditReceipt[]> {
  if (entries.length === 0) return []
  for (const [i, entry] of entries.entries())
    requireStorableJson(`records[${i}].details`, entry.details ?? {})
  const last = await lockChain(tx, tenant, nowMs)
  const day = utcDay(nowMs)
  // A clock that goes back over midnight must not reopen a day whose head the next day has built upon.
  const opened = day > last.day ? { day, records: 0n, prevHash: last.head, head: last.head } : last
  const records = chainEntries(tenant, opened, entries, nowMs)
  await insertRecords(tx, tenant, records)
  await moveHead(tx, tenant, opened, records)
  return records.map(({ id, sequence, hash, day: ofDay }) => ({ id, day: ofDay, sequence, hash }))
}

/** Throws INVALID_FIELD for details that PostgreSQL cannot search, which would fail everybody in the same transaction. */
export function requireStorableEntries(entries: readonly AuditEntry[]): void {
  for (const [i, { details }] of entries.entries()) {
    if (details !== undefined) requireStorableJson(`records[${i}].details`, details)
  }
}

async function lockChain(tx: Tx, tenant: TenantId, nowMs: number): Promise<Head> {
  const { rows } = await tx.query<{ day: string; records: bigint; prev_hash: Buffer; head: Buffer }>({
    name: "audit_lock_chain",
    // The update changes nothing: it makes one statement that creates the row, or waits for it, and reads it.
    text: `insert into audit_chains as c (tenant, day, records, prev_hash, head) values ($1, $2::date, 0, $3, $3)
      on conflict (tenant) do update set records = c.records
      returning c.day::text as day, c.records, c.prev_hash, c.head`,
    values: [tenant, utcDay(nowMs), AUDIT_GENESIS],
  })
  const row = rows[0]
  if (row === undefined) throw new DomainError("INTERNAL", "internal error")
  return { day: row.day, records: row.records, prevHash: row.prev_hash, head: row.head }
}

async function insertRecords(tx: Tx, tenant: TenantId, records: readonly AuditRecord[]): Promise<void> {
  const column = <T>(pick: (record: AuditRecord) => T): T[] => records.map(pick)
  await tx.query({
    name: "audit_insert",
    text: `insert into audit_records (tenant, day, seq, id, time, recorded_at, actor, action, resource_type, resource_id,
        outcome, ip_address, user_agent, correlation_id, details, prev_hash, hash)
      select $1, $2::date, r.seq, r.id, r.time, r.recorded_at, r.actor, r.action, r.resource_type, r.resource_id,
        r.outcome, r.ip_address, r.user_agent, r.correlation_id, r.details, r.prev_hash, r.hash
      from unnest($3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[], $9::text[],
        $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::bytea[])
        as r(seq, id, time, recorded_at, actor, action, resource_type, resource_id,
          outcome, ip_address, user_agent, correlation_id, details, prev_hash, hash)`,
    values: [
      tenant,
      records[0]?.day,
      column((r) => r.sequence),
      column((r) => r.id),
      column((r) => new Date(r.timeMs).toISOString()),
      column((r) => new Date(r.recordMs).toISOString()),
      column((r) => r.actor),
      column((r) => r.action),
      column((r) => r.resourceType),
      column((r) => r.resourceId),
      column((r) => r.outcome),
      column((r) => r.ipAddress),
      column((r) => r.userAgent),
      column((r) => r.correlationId),
      column((r) => r.detailsJson),
      column((r) => r.prevHash),
      column((r) => r.hash),
    ],
  })
}

async function moveHead(
  tx: Tx,
  tenant: TenantId,
  opened: Head,
  added: readonly AuditRecord[],
): Promise<void> {
  const values = [
    tenant,
    opened.day,
    opened.records + BigInt(added.length),
    opened.prevHash,
    added.at(-1)?.hash ?? opened.head,
  ]
  await tx.query({
    name: "audit_move_day",
    text: `insert into audit_days (tenant, day, records, prev_hash, head) values ($1, $2::date, $3, $4, $5)
      on conflict (tenant, day) do update set records = excluded.records, head = excluded.head`,
    values,
  })
  await tx.query({
    name: "audit_move_chain",
    text: `update audit_chains set day = $2::date, records = $3, prev_hash = $4, head = $5 where tenant = $1`,
    values,
  })
}
