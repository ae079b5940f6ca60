/** The control plane's stores for the suites. */
import assert from "node:assert/strict"
import type { TenantFields, UserFields } from "../../src/domain/control/model.ts"
import type {
  AgentStore,
  ApiKeyStore,
  ConfigStore,
  NewApiKey,
  RoleStore,
  TenantStore,
  UserStore,
} from "../../src/domain/control/ports.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../src/domain/kernel/scope.ts"

/** The stores under test. */
export interface ControlHarness {
  readonly tenants: TenantStore
  readonly users: UserStore
  readonly agents: AgentStore
  readonly keys: ApiKeyStore
  readonly roles: RoleStore
  readonly configs: ConfigStore
  /** A tenant id that nobody has used. */
  freshTenant(): TenantId
  /** The time as the stores see it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
  /** Everything that is at rest, as text; binary as hexadecimal. */
  atRest(): Promise<string>
  /** The actions in the audit log of a tenant, oldest first. */
  audited(tenant: TenantId): Promise<readonly string[]>
}

/** Fields with nothing in them. */
export const USER: UserFields = { displayName: "", email: "", labels: {}, disabled: false }
/** Fields with nothing in them. */
export const AGENT = {
  displayName: "",
  description: "",
  userId: "",
  labels: {},
  metadata: {},
  disabled: false,
}
/** Fields with nothing in them. */
export const TENANT: TenantFields = { displayName: "", labels: {}, status: "ACTIVE", plan: "", limits: {} }

/** A key with nothing special about it. */
export function newKey(id: string, key: Partial<NewApiKey> = {}): NewApiKey {
  const nothing = {
    name: "",
    permissions: [],
    userId: "",
    agentId: "",
    platform: false,
    expireTime: undefined,
  }
  return { ...nothing, ...key, id }
}

/** The scope of a call with a request_id; `body` stands for the rest of the request. */
export function withRequestId(scope: CallScope, method: string, requestId: string, body: number): CallScope {
  const bodyHash = new Uint8Array(32).fill(body)
  return { ...scope, idempotency: { method: `keelplane.v1.${method}`, requestId, bodyHash } }
}

/** Asserts that a call fails with a reason. */
export async function rejects(call: Promise<unknown>, reason: Reason): Promise<DomainError> {
  let failure: unknown
  await assert.rejects(call, (error) => {
    failure = error
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return true
  })
  assert.ok(failure instanceof DomainError)
  return failure
}

/** All items of a list, page by page. */
export async function drain<T>(
  list: (page: { size: number; cursor?: readonly string[] | undefined }) => Promise<{
    readonly items: readonly T[]
    readonly next?: readonly string[] | undefined
  }>,
  size: number,
): Promise<T[]> {
  const items: T[] = []
  let cursor: readonly string[] | undefined
  do {
    const page = await list({ size, cursor })
    assert.ok(page.items.length <= size)
    items.push(...page.items)
    cursor = page.next
  } while (cursor !== undefined)
  return items
}
