/** Mutations of the control plane: the change, its audit record and its idempotency record, or none of them. */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { type CallScope, PLATFORM_TENANT, type TenantId } from "../../domain/kernel/scope.ts"
import { AUDIT_TOPIC, auditOutboxEntry } from "../../domain/outbox/audit-relay.ts"
import {
  type CacheInvalidations,
  cacheInvalidation,
  controlTag,
  EVERY_NAMESPACE,
} from "../../domain/outbox/cache-relay.ts"
import type { NewOutboxEntry } from "../../domain/outbox/model.ts"
import type { OutboxSignals } from "../../domain/outbox/signals.ts"
import { appendAudit, requireStorableEntries } from "./audit-append.ts"
import type { Database, Tx } from "./database.ts"
import { appendOutbox } from "./outbox-append.ts"

/** What the adapters of this plane are made of. */
export interface ControlDeps {
  readonly database: Database
  readonly clock: Clock
  /**
   * Set where the audit log is in another store than `database`: the transaction then owes the record to the outbox, and the
   * relay brings it there a little later. Unset, the record is written by the transaction itself.
   */
  readonly auditOutbox?: OutboxSignals | undefined
  /** Makes what callers have cached of a resource absent when it changes; undefined where nothing is cached. */
  readonly invalidations?: CacheInvalidations | undefined
}

/** What the audit log says about a change. */
export interface Audited {
  /** The RPC, e.g. `CreateUser`. */
  readonly action: string
  /** The resource's kind, e.g. `user`. */
  readonly kind: string
  readonly id: string
  /** Never secrets or values. */
  readonly details?: JsonObject
  /** Whose log; the scope's tenant by default. */
  readonly tenant?: TenantId
  /** Another resource of which callers may have cached what is wrong now. */
  readonly about?: { readonly kind: string; readonly id: string }
}

/**
 * Runs `work` and appends the audit record, or owes it to the outbox, in one transaction. A refused change leaves no record
 * of having happened.
 * @param work gets the time that all its rows are to carry.
 */
export async function controlMutation<T>(
  { database, clock, auditOutbox, invalidations }: ControlDeps,
  scope: CallScope,
  audited: Audited,
  work: (tx: Tx, now: Date) => Promise<T>,
): Promise<T> {
  const owner = audited.tenant ?? scope.tenant
  const tags = invalidations === undefined ? [] : tagsOf(audited, owner)
  const answer = await database.mutate(scope, `control.${audited.action}`, async (tx) => {
    const now = new Date(clock.now())
    const result = await work(tx, now)
    const entry = {
      actor: scope.actor,
      action: audited.action,
      resourceType: audited.kind,
      resourceId: audited.id,
      outcome: "success",
      details: audited.details,
    } as const
    const owed: NewOutboxEntry[] = []
    if (auditOutbox === undefined) await appendAudit(tx, [entry], now.getTime(), audited.tenant)
    else {
      requireStorableEntries([entry])
      owed.push(auditOutboxEntry(owner, entry, now.getTime()))
    }
    if (invalidations?.owed === true && tags.length > 0)
      owed.push(cacheInvalidation(owner, EVERY_NAMESPACE, tags))
    appendOutbox(tx, owed)
    return result
  })
  auditOutbox?.committed(AUDIT_TOPIC)
  if (tags.length > 0) invalidations?.committed(owner, tags)
  return answer
}

function tagsOf({ kind, id, about }: Audited, owner: TenantId): readonly string[] {
  // The platform itself has no cache.
  if (owner === PLATFORM_TENANT) return []
  const resources = [{ kind, id }, ...(about === undefined ? [] : [about])]
  return resources.flatMap((resource) => controlTag(resource.kind, resource.id) ?? [])
}
