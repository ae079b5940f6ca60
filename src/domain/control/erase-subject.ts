/** The end of a user or an agent: out of every plane, looked for once more, certified. */
import type { AuditStore } from "../event/audit-ports.ts"
import type { Clock } from "../kernel/clock.ts"
import { DomainError } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Saga } from "../saga/model.ts"
import type { SagaDefinition, StepContext } from "../saga/runner.ts"
import { certificateJson, recordCertificate } from "./certificate.ts"
import {
  addUp,
  certify,
  type ErasureSubject,
  removalsJson,
  removalsOf,
  type SubjectEraser,
  subjectDigest,
} from "./erasure.ts"

/** The kind of the saga; its subject is `user:<id>` or `agent:<id>`. */
export const ERASE_SUBJECT = "erase-subject"

/** What the saga works on. */
export interface EraseSubjectDeps {
  /** One per plane, the one that shuts the subject out first. */
  readonly erasers: readonly SubjectEraser[]
  readonly audit: AuditStore
  readonly clock: Clock
}

/** The saga: one `erase:<plane>` per plane, `look-again`, `certify`. It only goes forwards. */
export function eraseSubjectSaga(deps: EraseSubjectDeps): SagaDefinition {
  const erase = deps.erasers.map((eraser) => ({
    name: `erase:${eraser.name}`,
    run: async (scope: CallScope, { saga }: StepContext) =>
      removalsJson(await eraser.erase(scope, subjectOf(saga))),
  }))
  return {
    kind: ERASE_SUBJECT,
    pivot: erase[0]?.name,
    steps: [
      ...erase,
      { name: "look-again", run: (scope, { saga }) => lookAgain(deps, scope, subjectOf(saga)) },
      { name: "certify", run: (scope, context) => certifySubject(deps, scope, context) },
    ],
  }
}

/** The saga's name for a subject. */
export function sagaSubject({ kind, id }: ErasureSubject): string {
  return `${kind}:${id}`
}

function subjectOf({ subject }: Saga): ErasureSubject {
  const at = subject.indexOf(":")
  return { kind: subject.slice(0, at) === "user" ? "user" : "agent", id: subject.slice(at + 1) }
}

async function lookAgain({ erasers }: EraseSubjectDeps, scope: CallScope, subject: ErasureSubject) {
  const found = []
  for (const eraser of erasers) {
    if ((await eraser.remaining(scope, subject)) > 0) found.push(...(await eraser.erase(scope, subject)))
  }
  for (const eraser of erasers) {
    if ((await eraser.remaining(scope, subject)) === 0) continue
    // Somebody still writes; the saga comes back to this step.
    throw new DomainError("STORE_UNAVAILABLE", "data of the subject are still being written", {
      metadata: { store: eraser.name },
    })
  }
  return removalsJson(found)
}

async function certifySubject(deps: EraseSubjectDeps, scope: CallScope, context: StepContext) {
  const { saga } = context
  const { kind, id } = subjectOf(saga)
  const steps = [...deps.erasers.map(({ name }) => `erase:${name}`), "look-again"]
  const certificate = certify({
    id: saga.id,
    kind,
    subjectDigest: subjectDigest(kind, saga.tenant, id),
    requestedBy: saga.actor,
    beginMs: saga.createdMs,
    endMs: deps.clock.now(),
    removals: addUp(steps.flatMap((step) => removalsOf(context.result(step)))),
    remaining: 0,
  })
  await recordCertificate(deps.audit, scope, certificate)
  return certificateJson(certificate)
}
