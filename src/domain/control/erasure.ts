/** Erasing a tenant or a subject from every store, and the certificate that says what went from where. */
import { createHash } from "node:crypto"
import type { JsonObject, JsonValue } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import type { CallScope } from "../kernel/scope.ts"

/** Something that was removed. */
export interface Removal {
  /** The stores of the engine, as AdminService names them, e.g. `memory+events+control`. */
  readonly store: string
  /** Kind of thing, e.g. `sessions`. */
  readonly what: string
  readonly count: number
}

/** What an engine offers for the end of a tenant. */
export interface TenantEraser {
  /** As in {@link Removal.store}. */
  readonly store: string
  /** Whether it holds anything of the scope's tenant but audit records. */
  holds(scope: CallScope): Promise<boolean>
  /** Removes everything of the scope's tenant but audit records. Again it finds nothing. */
  erase(scope: CallScope): Promise<readonly Removal[]>
}

/** What the methods of {@link TenantEraser} do. */
export const TENANT_ERASER_OPERATIONS: Operations<TenantEraser> = { holds: "read", erase: "write" }

/** A person or program whose data are to go. */
export interface ErasureSubject {
  readonly kind: "user" | "agent"
  readonly id: string
}

/** What a plane offers for the end of a subject. */
export interface SubjectEraser {
  /** What it looks after, e.g. `memory`; a step of the saga has this name. */
  readonly name: string
  /** How much of the subject there is, within what {@link SubjectEraser.erase} looks at. */
  remaining(scope: CallScope, subject: ErasureSubject): Promise<number>
  /** Removes it. Again it finds nothing. */
  erase(scope: CallScope, subject: ErasureSubject): Promise<readonly Removal[]>
}

/** Says what was removed, by whom and when, and that nothing was left. Never names the subject itself. */
export interface ErasureCertificate {
  /** The saga that erased it. */
  readonly id: string
  readonly kind: "tenant" | "user" | "agent"
  /** SHA-256 of `kind:tenant:id`, hex: proves which subject was meant to whoever knows the id, and tells nobody else. */
  readonly subjectDigest: string
  readonly requestedBy: string
  readonly beginMs: number
  readonly endMs: number
  readonly removals: readonly Removal[]
  /** Things found when everything was looked through once more. Always 0, or there is no certificate. */
  readonly remaining: number
  /** SHA-256 over all of the above as {@link certificateText}, hex; the audit record of the erasure holds it too. */
  readonly digest: string
}

/** The digest of a subject; see {@link ErasureCertificate.subjectDigest}. */
export function subjectDigest(kind: ErasureCertificate["kind"], tenant: string, id: string): string {
  return sha256(`${kind}:${tenant}:${id}`)
}

/** The text under {@link ErasureCertificate.digest}: JSON with the fields in the order of the interface. */
export function certificateText(certificate: Omit<ErasureCertificate, "digest">): string {
  const { id, kind, subjectDigest: subject, requestedBy, beginMs, endMs, removals, remaining } = certificate
  const gone = removals.map(({ store, what, count }) => ({ store, what, count }))
  return JSON.stringify({
    id,
    kind,
    subjectDigest: subject,
    requestedBy,
    beginMs,
    endMs,
    removals: gone,
    remaining,
  })
}

/** Signs off a certificate. */
export function certify(certificate: Omit<ErasureCertificate, "digest">): ErasureCertificate {
  return { ...certificate, digest: sha256(certificateText(certificate)) }
}

/** Removals of one kind added up, in the order in which the kinds first came; nothing is left out. */
export function addUp(removals: readonly Removal[]): readonly Removal[] {
  const sums = new Map<string, Removal>()
  for (const removal of removals) {
    const key = JSON.stringify([removal.store, removal.what])
    sums.set(key, { ...removal, count: (sums.get(key)?.count ?? 0) + removal.count })
  }
  return [...sums.values()]
}

/** Removals as a step of a saga keeps them. */
export function removalsJson(removals: readonly Removal[]): JsonObject {
  return { removals: removals.map(({ store, what, count }) => ({ store, what, count })) }
}

/** What {@link removalsJson} kept. */
export function removalsOf(result: JsonObject): readonly Removal[] {
  const list: JsonValue | undefined = result.removals
  return Array.isArray(list) ? (list as unknown as readonly Removal[]) : []
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex")
}
