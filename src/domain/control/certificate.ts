/** Where certificates of erasure are kept: in their saga, and in the audit log. */
import { createHash } from "node:crypto"
import type { AuditStore } from "../event/audit-ports.ts"
import type { JsonObject } from "../kernel/json.ts"
import { type CallScope, scopeWith } from "../kernel/scope.ts"
import type { Saga } from "../saga/model.ts"
import { certificateText, type ErasureCertificate } from "./erasure.ts"

/** The method of the request_id under which a certificate is recorded. */
export const CERTIFY_ERASURE = "keelplane.v1.ControlService/CertifyErasure"

/** A certificate as the saga keeps it. */
export function certificateJson(certificate: ErasureCertificate): JsonObject {
  return { ...(JSON.parse(certificateText(certificate)) as JsonObject), digest: certificate.digest }
}

/** What {@link certificateJson} kept; undefined while the saga has not come so far. */
export function certificateOf(saga: Saga): ErasureCertificate | undefined {
  const step = saga.steps.find(({ name, state }) => name === "certify" && state === "done")
  return step?.result as unknown as ErasureCertificate | undefined
}

/** Puts the certificate into the tenant's audit log, whose chain of hashes proves that nobody changed it since. */
export async function recordCertificate(
  audit: AuditStore,
  scope: CallScope,
  certificate: ErasureCertificate,
): Promise<void> {
  const bodyHash = createHash("sha256").update(certificate.id).digest()
  // The step may run again; the record must not.
  const idempotency = {
    method: CERTIFY_ERASURE,
    requestId: certificate.id,
    bodyHash,
  }
  await audit.record(scopeWith(scope, { idempotency }), [
    {
      actor: certificate.requestedBy,
      action: "CertifyErasure",
      resourceType: certificate.kind,
      resourceId: certificate.subjectDigest,
      outcome: "success",
      correlationId: certificate.id,
      details: certificateJson(certificate),
    },
  ])
}
