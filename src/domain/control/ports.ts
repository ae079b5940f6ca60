/**
 * What the control plane asks of a store. Every mutation appends an audit record in its own transaction and honours
 * `scope.idempotency`. Every method rejects with the reasons of ../kernel/errors only; besides those named below:
 * STORE_UNAVAILABLE, OUTCOME_UNKNOWN, DEADLINE_EXCEEDED, CANCELLED.
 */
import type { Filter } from "../kernel/filter/index.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type {
  Agent,
  AgentFields,
  ApiKey,
  ConfigTarget,
  ConfigValue,
  ConfigVersion,
  Role,
  RoleAssignment,
  RoleFields,
  Subject,
  SubjectGrants,
  Tenant,
  TenantFields,
  TenantStatus,
  User,
  UserFields,
} from "./model.ts"

/** Create, read, update and list for a resource with an id and a revision. Ids are compared byte for byte. */
export interface ResourceStore<T, F> {
  /** ALREADY_EXISTS when the id is taken. */
  create(scope: CallScope, id: string, fields: F): Promise<T>
  /** NOT_FOUND. */
  get(scope: CallScope, id: string): Promise<T>
  /** By id in byte order. */
  list(scope: CallScope, filter: Filter | undefined, page: PageRequest): Promise<Page<T>>
  /** Changes the fields that are given. NOT_FOUND; REVISION_MISMATCH unless at `ifRevision`, where that is given. */
  update(scope: CallScope, id: string, patch: Partial<F>, ifRevision?: bigint): Promise<T>
}

/** Tenants. The store uses the platform's scope itself; only platform principals may get here. */
export interface TenantStore extends ResourceStore<Tenant, TenantFields> {
  /**
   * Deletes the tenant; with `force` also its rows in every table but the audit log, in one transaction. NOT_FOUND,
   * REVISION_MISMATCH, FAILED_PRECONDITION when it holds anything and `force` is not set.
   * @returns how many rows went besides the tenant itself.
   */
  delete(scope: CallScope, id: string, force: boolean, ifRevision?: bigint): Promise<bigint>
  /** Creates the tenant unless it exists. */
  ensure(scope: CallScope, id: string): Promise<void>
  /** The status, or undefined where there is no such tenant. */
  status(scope: CallScope, id: string): Promise<TenantStatus | undefined>
}

/** Users. */
export interface UserStore extends ResourceStore<User, UserFields> {
  /** Also drops its assignments, revokes its keys and leaves its agents without an owner. NOT_FOUND, REVISION_MISMATCH. */
  delete(scope: CallScope, id: string, ifRevision?: bigint): Promise<void>
}

/** Agents. Create and update reject with NOT_FOUND when the owner does not exist. */
export interface AgentStore extends ResourceStore<Agent, AgentFields> {
  /** Also drops its assignments and revokes its keys. NOT_FOUND, REVISION_MISMATCH. */
  delete(scope: CallScope, id: string, ifRevision?: bigint): Promise<void>
}

/** A key to be stored. */
export interface NewApiKey {
  readonly id: string
  readonly name: string
  readonly permissions: readonly string[]
  readonly userId: string
  readonly agentId: string
  readonly platform: boolean
  readonly expireTime: number | undefined
}

/** A secret as it is stored: never itself. */
export interface SecretRecord {
  /** SHA-256 of the whole token. */
  readonly hash: Uint8Array
  /** What this process needs to show the token again when the call is repeated; worthless without its memory. */
  readonly nonce: Uint8Array
}

/** What a call that makes a secret stores and replays. */
export interface IssuedKey extends SecretRecord {
  readonly key: ApiKey
}

/** A key with what is needed to judge a token. */
export interface KeyRecord {
  readonly key: ApiKey
  /** The key's tenant, or `*` for one of the platform. */
  readonly tenant: string
  readonly hash: Uint8Array
  readonly previousHash: Uint8Array | undefined
  /** The user or agent behind it is disabled. */
  readonly disabled: boolean
  /** Of its tenant; undefined for a key of the platform and for a tenant that is gone. */
  readonly tenantStatus: TenantStatus | undefined
}

/** API keys. `platform` selects the keys that belong to no tenant. */
export interface ApiKeyStore {
  /** NOT_FOUND for its user or agent. */
  create(scope: CallScope, key: NewApiKey, secret: SecretRecord): Promise<IssuedKey>
  /** NOT_FOUND. */
  get(scope: CallScope, id: string, platform: boolean): Promise<ApiKey>
  /** By id in byte order. */
  list(
    scope: CallScope,
    filter: Filter | undefined,
    platform: boolean,
    page: PageRequest,
  ): Promise<Page<ApiKey>>
  /** Changes nothing when it is revoked already. NOT_FOUND. */
  revoke(scope: CallScope, id: string, platform: boolean): Promise<ApiKey>
  /** The old secret is accepted until `graceUntil`. NOT_FOUND; FAILED_PRECONDITION when revoked or expired. */
  rotate(
    scope: CallScope,
    id: string,
    platform: boolean,
    secret: SecretRecord,
    graceUntil: number,
  ): Promise<IssuedKey>
  /** A key of the scope's tenant, or of any with the platform's scope; undefined where there is none. */
  find(scope: CallScope, id: string): Promise<KeyRecord | undefined>
}

/** Roles and who has them. */
export interface RoleStore extends ResourceStore<Role, RoleFields> {
  /** With its assignments. NOT_FOUND, REVISION_MISMATCH. */
  delete(scope: CallScope, id: string, ifRevision?: bigint): Promise<void>
  /** Answers the assignment that exists already, if so. NOT_FOUND for role or subject; LIMIT_EXCEEDED at 1000 per subject. */
  assign(scope: CallScope, roleId: string, subject: Subject, resource: string): Promise<RoleAssignment>
  /** NOT_FOUND. */
  revoke(scope: CallScope, roleId: string, subject: Subject, resource: string): Promise<void>
  /** By role, subject and resource. */
  listAssignments(
    scope: CallScope,
    where: { readonly roleId?: string; readonly subject?: Subject },
    page: PageRequest,
  ): Promise<Page<RoleAssignment>>
  /** What each subject may do, in the order asked, from one snapshot. */
  grants(scope: CallScope, subjects: readonly Subject[]): Promise<readonly SubjectGrants[]>
}

/** How a version comes about. */
export interface ConfigWrite {
  readonly ifVersion?: bigint | undefined
  readonly description: string
}

/** Versioned configuration. A key's versions are 1, 2, 3, ...; a tenant's changes have one gapless sequence. */
export interface ConfigStore {
  /** REVISION_MISMATCH unless the live version (0 when absent or deleted) is `ifVersion`. */
  put(scope: CallScope, key: string, value: ConfigValue, write: ConfigWrite): Promise<ConfigVersion>
  /** NOT_FOUND for the key or version; FAILED_PRECONDITION when that is a deletion; REVISION_MISMATCH. */
  rollback(scope: CallScope, key: string, version: bigint, write: ConfigWrite): Promise<ConfigVersion>
  /** NOT_FOUND when absent or deleted; REVISION_MISMATCH. */
  delete(scope: CallScope, key: string, write: ConfigWrite): Promise<ConfigVersion>
  /** NOT_FOUND where there was no value. */
  get(
    scope: CallScope,
    key: string,
    at?: { readonly version: bigint } | { readonly time: number },
  ): Promise<ConfigVersion>
  /** Newest first. NOT_FOUND when the key never had a version. */
  listVersions(
    scope: CallScope,
    key: string,
    withValues: boolean,
    page: PageRequest,
  ): Promise<Page<ConfigVersion>>
  /** Live values by key in byte order. */
  list(scope: CallScope, prefix: string, withValues: boolean, page: PageRequest): Promise<Page<ConfigVersion>>
  /** The tenant's last sequence; 0 before the first change. */
  lastSequence(scope: CallScope): Promise<bigint>
  /** The live values as of `sequence`, by key, after `afterKey`. */
  snapshot(
    scope: CallScope,
    target: ConfigTarget,
    sequence: bigint,
    afterKey: string | undefined,
    limit: number,
  ): Promise<readonly ConfigVersion[]>
  /** Changes after `sequence`, deletions included, in order. */
  changes(
    scope: CallScope,
    target: ConfigTarget,
    sequence: bigint,
    limit: number,
  ): Promise<readonly ConfigVersion[]>
}

/** What the methods of {@link TenantStore} do. */
export const TENANT_STORE_OPERATIONS: Operations<TenantStore> = {
  create: "write",
  update: "write",
  delete: "write",
  ensure: "write",
  get: "read",
  list: "read",
  status: "read",
}

/** What the methods of {@link UserStore} do. */
export const USER_STORE_OPERATIONS: Operations<UserStore> = {
  create: "write",
  update: "write",
  delete: "write",
  get: "read",
  list: "read",
}

/** What the methods of {@link AgentStore} do. */
export const AGENT_STORE_OPERATIONS: Operations<AgentStore> = {
  create: "write",
  update: "write",
  delete: "write",
  get: "read",
  list: "read",
}

/** What the methods of {@link ApiKeyStore} do. */
export const API_KEY_STORE_OPERATIONS: Operations<ApiKeyStore> = {
  create: "write",
  revoke: "write",
  rotate: "write",
  get: "read",
  list: "read",
  find: "read",
}

/** What the methods of {@link RoleStore} do. */
export const ROLE_STORE_OPERATIONS: Operations<RoleStore> = {
  create: "write",
  update: "write",
  delete: "write",
  assign: "write",
  revoke: "write",
  get: "read",
  list: "read",
  listAssignments: "read",
  grants: "read",
}

/** What the methods of {@link ConfigStore} do. */
export const CONFIG_STORE_OPERATIONS: Operations<ConfigStore> = {
  put: "write",
  rollback: "write",
  delete: "write",
  get: "read",
  listVersions: "read",
  list: "read",
  lastSequence: "read",
  snapshot: "read",
  changes: "read",
}
