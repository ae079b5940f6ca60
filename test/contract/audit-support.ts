/** Audit entries for the suites. */
import assert from "node:assert/strict"
import type { AuditEntry, AuditRecord } from "../../src/domain/event/audit-model.ts"
import type { AuditQuery, AuditStore } from "../../src/domain/event/audit-ports.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../src/domain/kernel/scope.ts"

/** A day in milliseconds. */
export const DAY_MS = 24 * 3_600_000

/** A log under test. */
export interface AuditHarness {
  readonly store: AuditStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time of recording; moves only here, also backwards. */
  readonly clock: { now(): number; advance(ms: number): void }
}

/** An entry with the usual content. */
export function entry(part: Partial<AuditEntry> = {}): AuditEntry {
  return { actor: "ada", action: "read", resourceType: "doc", resourceId: "1", outcome: "success", ...part }
}

/** All records that match, latest first. */
export async function queryAll(
  store: AuditStore,
  scope: CallScope,
  query: AuditQuery = {},
): Promise<readonly AuditRecord[]> {
  return (await store.query(scope, query, { size: 1_000 })).items
}

/** The scope of a call with a request_id; `body` stands for the rest of the request. */
export function withRequestId(scope: CallScope, requestId: string, body: number): CallScope {
  const bodyHash = new Uint8Array(32).fill(body)
  return { ...scope, idempotency: { method: "keelplane.v1.AuditService/RecordAudit", requestId, bodyHash } }
}

/** Asserts that a call fails with a reason. */
export async function rejects(call: Promise<unknown>, reason: Reason): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return true
  })
}
