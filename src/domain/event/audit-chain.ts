/** The hash chain. What is hashed is part of the API (see AuditService in the proto): it never changes under its tag. */
import { createHash } from "node:crypto"
import type { JsonValue } from "../kernel/json.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import type { AuditEntry, AuditRecord } from "./audit-model.ts"

/** What the very first record of a tenant is chained to. */
export const AUDIT_GENESIS: Uint8Array = new Uint8Array(32)

/** JSON text without spaces, keys sorted by UTF-16 code units: equal objects give equal text. */
export function canonicalJson(value: JsonValue): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`
  const members = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonicalJson(value[key] as JsonValue)}`)
  return `{${members.join(",")}}`
}

/** The hash that `record` must have after `prevHash`. Its own hashes are not looked at. */
export function auditHash(
  tenant: string,
  record: Omit<AuditRecord, "prevHash" | "hash">,
  prevHash: Uint8Array,
): Uint8Array {
  const canonical = JSON.stringify([
    "keelplane-audit-1",
    tenant,
    record.day,
    record.sequence.toString(),
    record.id,
    record.timeMs.toString(),
    record.recordMs.toString(),
    record.actor,
    record.action,
    record.resourceType,
    record.resourceId,
    record.outcome,
    record.ipAddress,
    record.userAgent,
    record.correlationId,
    record.detailsJson,
  ])
  return createHash("sha256").update(prevHash).update(canonical, "utf8").digest()
}

/** Whether two hashes are equal. */
export function sameHash(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0
}

/** The UTC day of a time, `YYYY-MM-DD`. */
export function utcDay(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

/** The records of `entries`, recorded at `nowMs` and chained to a day that has `records` records and this head so far. */
export function chainEntries(
  tenant: string,
  from: { readonly day: string; readonly records: bigint; readonly head: Uint8Array },
  entries: readonly AuditEntry[],
  nowMs: number,
): AuditRecord[] {
  const records: AuditRecord[] = []
  let prevHash = from.head
  for (const entry of entries) {
    const content = {
      id: entry.id ?? uuid7(),
      day: from.day,
      sequence: from.records + BigInt(records.length + 1),
      timeMs: entry.timeMs ?? nowMs,
      recordMs: nowMs,
      actor: entry.actor,
      action: entry.action,
      resourceType: entry.resourceType,
      resourceId: entry.resourceId ?? "",
      outcome: entry.outcome,
      ipAddress: entry.ipAddress ?? "",
      userAgent: entry.userAgent ?? "",
      correlationId: entry.correlationId ?? "",
      detailsJson: canonicalJson(entry.details ?? {}),
    }
    const hash = auditHash(tenant, content, prevHash)
    records.push({ ...content, prevHash, hash })
    prevHash = hash
  }
  return records
}
