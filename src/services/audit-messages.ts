/** Audit records between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt"
import type { AuditEntry, AuditRecord, AuditOutcome as DomainOutcome } from "../domain/event/audit-model.ts"
import {
  AUDIT_FILTER_FIELDS,
  type AuditCounts,
  type AuditDimension,
  type AuditQuery,
  type AuditSummary,
} from "../domain/event/audit-ports.ts"
import type { AuditBreak, AuditVerdict, AuditBreakKind as DomainKind } from "../domain/event/audit-verify.ts"
import { invalidField, limitExceeded } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import type { JsonObject } from "../domain/kernel/json.ts"
import { structBytes } from "../domain/kernel/json-size.ts"
import {
  AuditBreakKind,
  type AuditBreakSchema,
  type AuditDimensionSchema,
  AuditOutcome,
  type AuditQuerySchema,
  type AuditRecordSchema,
  type NewAuditRecordSchema,
  type SummarizeAuditResponseSchema,
  type VerifyAuditResponseSchema,
} from "../gen/keelplane/v1/audit_service_pb.ts"

const DETAILS_MAX_BYTES = 16 * 1024

const OUTCOME_OF: ReadonlyMap<number, DomainOutcome> = new Map([
  [AuditOutcome.SUCCESS, "success"],
  [AuditOutcome.FAILURE, "failure"],
  [AuditOutcome.DENIED, "denied"],
])

const OUTCOME_TO: Readonly<Record<DomainOutcome, AuditOutcome>> = {
  success: AuditOutcome.SUCCESS,
  failure: AuditOutcome.FAILURE,
  denied: AuditOutcome.DENIED,
}

const KIND_TO: Readonly<Record<DomainKind, AuditBreakKind>> = {
  altered: AuditBreakKind.ALTERED,
  missing: AuditBreakKind.MISSING,
  reordered: AuditBreakKind.REORDERED,
  added: AuditBreakKind.ADDED,
}

/** A record to append. `path` leads to it in the request. */
export function entryOf(message: MessageShape<typeof NewAuditRecordSchema>, path: string): AuditEntry {
  const outcome = OUTCOME_OF.get(message.outcome)
  if (outcome === undefined) throw invalidField(`${path}.outcome`, "must be SUCCESS, FAILURE or DENIED")
  if (message.details !== undefined) {
    const bytes = Math.max(Buffer.byteLength(JSON.stringify(message.details)), structBytes(message.details))
    if (bytes > DETAILS_MAX_BYTES) throw limitExceeded(`${path}.details`, bytes, DETAILS_MAX_BYTES)
  }
  return {
    actor: message.actor,
    action: message.action,
    resourceType: message.resourceType,
    resourceId: message.resourceId,
    outcome,
    timeMs: message.time === undefined ? undefined : timestampMs(message.time),
    ipAddress: message.ipAddress,
    userAgent: message.userAgent,
    correlationId: message.correlationId,
    details: message.details,
  }
}

/** A query; everything when absent. */
export function queryOf(message: MessageShape<typeof AuditQuerySchema> | undefined): AuditQuery {
  if (message === undefined) return {}
  const text = (value: string): string | undefined => (value === "" ? undefined : value)
  const startMs = message.startTime === undefined ? undefined : timestampMs(message.startTime)
  const endMs = message.endTime === undefined ? undefined : timestampMs(message.endTime)
  if (startMs !== undefined && endMs !== undefined && startMs > endMs) {
    throw invalidField("query.end_time", "must not lie before start_time")
  }
  return {
    actor: text(message.actor),
    action: text(message.action),
    resourceType: text(message.resourceType),
    resourceId: text(message.resourceId),
    outcome: OUTCOME_OF.get(message.outcome),
    startMs,
    endMs,
    filter: parseFilter(message.filter, AUDIT_FILTER_FIELDS),
  }
}

/** A record as callers see it. */
export function recordMessage(record: AuditRecord): MessageInitShape<typeof AuditRecordSchema> {
  return {
    recordId: record.id,
    day: record.day,
    sequence: record.sequence,
    actor: record.actor,
    action: record.action,
    resourceType: record.resourceType,
    resourceId: record.resourceId,
    outcome: OUTCOME_TO[record.outcome],
    time: timestampFromMs(record.timeMs),
    recordTime: timestampFromMs(record.recordMs),
    ipAddress: record.ipAddress,
    userAgent: record.userAgent,
    correlationId: record.correlationId,
    details: JSON.parse(record.detailsJson) as JsonObject,
    hash: hex(record.hash),
  }
}

/** A hash as callers see it. */
export function hex(hash: Uint8Array): string {
  return Buffer.from(hash).toString("hex")
}

/** The compliance report as callers see it. */
export function summaryMessage(
  summary: AuditSummary,
  startMs: number,
  endMs: number,
): MessageInitShape<typeof SummarizeAuditResponseSchema> {
  const { total } = summary
  return {
    total: total.count,
    succeeded: total.count - total.denied - total.failed,
    failed: total.failed,
    denied: total.denied,
    actors: dimensionMessage(summary.actors, total),
    actions: dimensionMessage(summary.actions, total),
    resources: dimensionMessage(summary.resources, total),
    periods: summary.periods.map(({ startMs: start, ...counts }) => ({
      ...counts,
      startTime: timestampFromMs(start),
    })),
    startTime: timestampFromMs(startMs),
    endTime: timestampFromMs(endMs),
  }
}

function dimensionMessage(
  dimension: AuditDimension,
  total: AuditCounts,
): MessageInitShape<typeof AuditDimensionSchema> {
  const listed = dimension.top.reduce((sum, { count }) => sum + count, 0n)
  return { top: [...dimension.top], distinct: dimension.distinct, other: total.count - listed }
}

/** What a check found, as callers see it. */
export function verdictMessage(verdict: AuditVerdict): MessageInitShape<typeof VerifyAuditResponseSchema> {
  return {
    intact: verdict.firstBreak === undefined,
    firstBreak: verdict.firstBreak === undefined ? undefined : breakMessage(verdict.firstBreak),
    days: verdict.days.map(({ day, records, head, retired, intact }) => ({
      day,
      records,
      headHash: hex(head),
      retired,
      intact,
    })),
    recordsChecked: verdict.recordsChecked,
    nextStartDay: verdict.nextStartDay ?? "",
  }
}

function breakMessage(broken: AuditBreak): MessageInitShape<typeof AuditBreakSchema> {
  return { ...broken, kind: KIND_TO[broken.kind] }
}
