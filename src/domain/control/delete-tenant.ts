/** The end of a tenant: shut out, erased from every store, looked for once more, deleted, certified. */
import type { AuditStore } from "../event/audit-ports.ts"
import type { Clock } from "../kernel/clock.ts"
import { DomainError } from "../kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../kernel/scope.ts"
import { mayBeForgotten, once } from "../saga/once.ts"
import type { SagaDefinition, StepContext } from "../saga/runner.ts"
import { certificateJson, recordCertificate } from "./certificate.ts"
import { addUp, certify, removalsJson, removalsOf, subjectDigest, type TenantEraser } from "./erasure.ts"
import type { Tenant } from "./model.ts"
import type { TenantStore } from "./ports.ts"
import type { ControlSignals } from "./signals.ts"

/** The kind of the saga; its subject is the tenant's id and it belongs to the platform. */
export const DELETE_TENANT = "delete-tenant"

const METHOD = "keelplane.v1.ControlService/DeleteTenant"

/** What the saga works on. */
export interface DeleteTenantDeps {
  readonly tenants: TenantStore
  /** One per engine. */
  readonly erasers: readonly TenantEraser[]
  readonly audit: AuditStore
  readonly signals: ControlSignals
  readonly clock: Clock
}

/** The saga: `suspend`, one `erase:<store>` per engine, `look-again`, `delete`, `certify`. */
export function deleteTenantSaga(deps: DeleteTenantDeps): SagaDefinition {
  return {
    kind: DELETE_TENANT,
    pivot: "suspend",
    steps: [
      { name: "suspend", run: (scope, context) => suspend(deps, scope, context) },
      ...deps.erasers.map((eraser) => ({
        name: eraseStep(eraser),
        run: async (scope: CallScope, { saga }: StepContext) =>
          removalsJson(await eraser.erase(within(scope, saga.subject))),
      })),
      { name: "look-again", run: (scope, { saga }) => lookAgain(deps, within(scope, saga.subject)) },
      { name: "delete", run: (scope, { saga }) => remove(deps, scope, saga.subject) },
      { name: "certify", run: (scope, context) => certifyTenant(deps, scope, context) },
    ],
  }
}

const eraseStep = ({ store }: TenantEraser) => `erase:${store}`

/** The saga runs for the platform; the data are the tenant's. */
function within(scope: CallScope, tenant: string): CallScope {
  return {
    ...systemScope(tenant as TenantId, scope.signal),
    actor: scope.actor,
    deadlineMs: scope.deadlineMs,
  }
}

/** Keeps new calls out. What another daemon let in within its few seconds of not knowing, `look-again` finds. */
async function suspend(deps: DeleteTenantDeps, scope: CallScope, context: StepContext) {
  const { tenants, signals } = deps
  const { subject, input } = context.saga
  const { ifRevision } = input
  const expected = typeof ifRevision === "string" ? BigInt(ifRevision) : undefined
  if (!isSuspended(deps, context, await tenants.get(scope, subject), expected)) {
    // An earlier run of this step whose end nobody kept has moved the revision itself.
    await tenants.update(once(scope, context, METHOD), subject, { status: "SUSPENDED" }, expected)
  }
  signals.identityChanged()
  return {}
}

/**
 * Whether the tenant is suspended already as it was expected to be. Where the store may have forgotten an earlier run, a tenant that has
 * changed once since the saga began, and is suspended, is one that this run suspended: to refuse would leave it shut out and in place.
 */
function isSuspended(
  { clock }: DeleteTenantDeps,
  context: StepContext,
  { status, revision, updateTime }: Tenant,
  expected: bigint | undefined,
): boolean {
  if (status !== "SUSPENDED") return false
  if (expected === undefined || revision === expected) return true
  return revision === expected + 1n && updateTime >= context.saga.createdMs && mayBeForgotten(clock, context)
}

async function lookAgain({ erasers }: DeleteTenantDeps, scope: CallScope) {
  const found = []
  for (const eraser of erasers) {
    if (await eraser.holds(scope)) found.push(...(await eraser.erase(scope)))
  }
  // Twice, for what is on its way from one engine to another.
  for (const eraser of [...erasers, ...erasers]) {
    if (!(await eraser.holds(scope))) continue
    // Somebody still writes; the saga comes back to this step.
    throw new DomainError("STORE_UNAVAILABLE", "the tenant is still being written to", {
      metadata: { store: eraser.store },
    })
  }
  return removalsJson(found)
}

async function remove({ tenants, signals }: DeleteTenantDeps, scope: CallScope, id: string) {
  try {
    await tenants.delete(scope, id, true)
  } catch (error) {
    // Gone since an earlier run whose end nobody kept.
    if (!(error instanceof DomainError && error.reason === "NOT_FOUND")) throw error
  }
  signals.identityChanged()
  return {}
}

async function certifyTenant(deps: DeleteTenantDeps, scope: CallScope, context: StepContext) {
  const { saga } = context
  const steps = [...deps.erasers.map(eraseStep), "look-again"]
  const certificate = certify({
    id: saga.id,
    kind: "tenant",
    subjectDigest: subjectDigest("tenant", saga.subject, saga.subject),
    requestedBy: saga.actor,
    beginMs: saga.createdMs,
    endMs: deps.clock.now(),
    removals: addUp(steps.flatMap((step) => removalsOf(context.result(step)))),
    remaining: 0,
  })
  await recordCertificate(deps.audit, within(scope, saga.subject), certificate)
  return certificateJson(certificate)
}
