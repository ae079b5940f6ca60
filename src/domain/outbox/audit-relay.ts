/** Audit records of changes whose log is in another store than the change: owed to the outbox, recorded by the relay. */
import { createHash } from "node:crypto"
import { AUDIT_OUTCOMES, type AuditEntry, type AuditOutcome } from "../event/audit-model.ts"
import { AUDIT_FILTER_FIELDS, type AuditStore } from "../event/audit-ports.ts"
import { parseFilter } from "../kernel/filter/index.ts"
import type { JsonObject, JsonValue } from "../kernel/json.ts"
import { type CallScope, scopeWith, type TenantId } from "../kernel/scope.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import type { OutboxHandler } from "./deliver.ts"
import { jsonPayload, type NewOutboxEntry, type OutboxEntry, readJsonPayload } from "./model.ts"

/** The topic of {@link auditOutboxEntry}. */
export const AUDIT_TOPIC = "audit"

/** Stores remember a request_id for a day. Entries that are older than half of it are looked for in the log first. */
const REMEMBERED_MS = 12 * 3_600_000

/** The method of the relay's own request_ids. */
export const RECORD_AUDIT = "keelplane.outbox/RecordAudit"

/** The entry that has a change recorded. It carries the record's id, so a repetition is the same record. */
export function auditOutboxEntry(tenant: TenantId, entry: AuditEntry, nowMs: number): NewOutboxEntry {
  const { actor, action, resourceType, resourceId, outcome, ipAddress, userAgent, correlationId } = entry
  const texts = Object.entries({ resourceId, ipAddress, userAgent, correlationId }).filter(
    (member): member is [string, string] => member[1] !== undefined,
  )
  const payload = jsonPayload({
    actor,
    action,
    resourceType,
    outcome,
    timeMs: entry.timeMs ?? nowMs,
    details: entry.details ?? {},
    ...Object.fromEntries(texts),
  })
  // One key for the whole log: its records stand in the order of the changes.
  return { topic: AUDIT_TOPIC, tenant, key: "", opId: uuid7(), payload }
}

/** Records entries of {@link AUDIT_TOPIC}: each tenant's in their order, tenants side by side, each exactly once. */
export function auditHandler(audit: AuditStore, now: () => number): OutboxHandler {
  return async (scope, { entries }) => {
    const tenants = Map.groupBy(entries, ({ tenant }) => tenant)
    const results = await Promise.allSettled(
      [...tenants].map(async ([tenant, own]) => {
        for (const entry of own) await recordOnce(scopeWith(scope, { tenant }), audit, entry, now())
      }),
    )
    const failed = results.find((result) => result.status === "rejected")
    if (failed !== undefined) throw failed.reason
  }
}

async function recordOnce(
  scope: CallScope,
  audit: AuditStore,
  { opId, payload, createdMs }: OutboxEntry,
  nowMs: number,
): Promise<void> {
  const entry = { ...auditEntryOf(readJsonPayload(payload)), id: opId }
  if (nowMs - createdMs > REMEMBERED_MS && (await isRecorded(scope, audit, entry))) return
  const bodyHash = createHash("sha256").update(payload).digest()
  await audit.record(scopeWith(scope, { idempotency: { method: RECORD_AUDIT, requestId: opId, bodyHash } }), [
    entry,
  ])
}

async function isRecorded(
  scope: CallScope,
  audit: AuditStore,
  { id, timeMs }: { readonly id: string; readonly timeMs: number },
): Promise<boolean> {
  const filter = parseFilter(`record_id = "${id}"`, AUDIT_FILTER_FIELDS)
  const found = await audit.query(scope, { startMs: timeMs, endMs: timeMs + 1, filter }, { size: 1 })
  return found.items.length > 0
}

function auditEntryOf(value: JsonValue): AuditEntry & { readonly timeMs: number } {
  const { timeMs, outcome, details, ...texts } = objectOf(value)
  if (typeof timeMs !== "number" || !isOutcome(outcome)) throw new Error("not an audit entry")
  const text = (name: string): string => {
    const found = texts[name] ?? ""
    if (typeof found !== "string") throw new Error("not an audit entry")
    return found
  }
  return {
    actor: text("actor"),
    action: text("action"),
    resourceType: text("resourceType"),
    resourceId: text("resourceId"),
    outcome,
    timeMs,
    ipAddress: text("ipAddress"),
    userAgent: text("userAgent"),
    correlationId: text("correlationId"),
    details: objectOf(details ?? {}),
  }
}

function objectOf(value: JsonValue): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("not an audit entry")
  return value
}

function isOutcome(value: JsonValue | undefined): value is AuditOutcome {
  return AUDIT_OUTCOMES.some((outcome) => outcome === value)
}
