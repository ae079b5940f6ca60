/** Tenants, users, agents and roles between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type {
  Agent,
  AgentFields,
  Role,
  RoleFields,
  Stamped,
  Tenant,
  TenantFields,
  User,
  UserFields,
} from "../../domain/control/model.ts"
import { invalidField, limitExceeded } from "../../domain/kernel/errors.ts"
import type { FieldTable } from "../../domain/kernel/filter/index.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { uuid7 } from "../../domain/kernel/uuid7.ts"
import {
  type AgentSchema,
  type RoleSchema,
  type TenantSchema,
  TenantStatus,
  type UserSchema,
} from "../../gen/keelplane/v1/control_service_pb.ts"

const METADATA_MAX_BYTES = 65_536
const STAMPED_FILTER: FieldTable = { create_time: { type: "timestamp" }, update_time: { type: "timestamp" } }

/** The filter fields of each resource. */
export const TENANT_FILTER: FieldTable = {
  ...STAMPED_FILTER,
  tenant_id: { type: "string" },
  display_name: { type: "string" },
  status: { type: "enum", values: ["ACTIVE", "SUSPENDED"] },
  plan: { type: "string" },
  labels: { type: "json" },
}
/** See {@link TENANT_FILTER}. */
export const USER_FILTER: FieldTable = {
  ...STAMPED_FILTER,
  user_id: { type: "string" },
  display_name: { type: "string" },
  email: { type: "string" },
  disabled: { type: "bool" },
  labels: { type: "json" },
}
/** See {@link TENANT_FILTER}. */
export const AGENT_FILTER: FieldTable = {
  ...STAMPED_FILTER,
  agent_id: { type: "string" },
  display_name: { type: "string" },
  user_id: { type: "string" },
  disabled: { type: "bool" },
  labels: { type: "json" },
  metadata: { type: "json" },
}
/** See {@link TENANT_FILTER}. */
export const ROLE_FILTER: FieldTable = {
  ...STAMPED_FILTER,
  role_id: { type: "string" },
  display_name: { type: "string" },
}

/** How the proto spells the changeable fields of each resource. */
export const TENANT_NAMES: Readonly<Record<keyof TenantFields, string>> = {
  displayName: "display_name",
  labels: "labels",
  status: "status",
  plan: "plan",
  limits: "limits",
}
/** See {@link TENANT_NAMES}. */
export const USER_NAMES: Readonly<Record<keyof UserFields, string>> = {
  displayName: "display_name",
  email: "email",
  labels: "labels",
  disabled: "disabled",
}
/** See {@link TENANT_NAMES}. */
export const AGENT_NAMES: Readonly<Record<keyof AgentFields, string>> = {
  displayName: "display_name",
  description: "description",
  userId: "user_id",
  labels: "labels",
  metadata: "metadata",
  disabled: "disabled",
}
/** See {@link TENANT_NAMES}. */
export const ROLE_NAMES: Readonly<Record<keyof RoleFields, string>> = {
  displayName: "display_name",
  description: "description",
  permissions: "permissions",
}

/** The id that the caller chose, or a new one. */
export function idOf(id: string): string {
  return id === "" ? uuid7() : id
}

/** An id that must be given in an update. */
export function requiredId(field: string, id: string): string {
  if (id === "") throw invalidField(field, "is required")
  return id
}

/** Throws LIMIT_EXCEEDED when `value` takes more than `maximum` bytes as JSON. */
export function requireSmallJson(field: string, value: JsonObject, maximum: number): void {
  const bytes = Buffer.byteLength(JSON.stringify(value))
  if (bytes > maximum) throw limitExceeded(field, bytes, maximum)
}

function stamps({ revision, createTime, updateTime }: Stamped) {
  return { revision, createTime: timestampFromMs(createTime), updateTime: timestampFromMs(updateTime) }
}

/** The changeable fields of a tenant. */
export function tenantFields(message: MessageShape<typeof TenantSchema>): TenantFields {
  const { displayName, labels, plan, limits } = message
  const status = message.status === TenantStatus.SUSPENDED ? "SUSPENDED" : "ACTIVE"
  return { displayName, labels, status, plan, limits }
}

/** A tenant as callers see it. */
export function tenantMessage(tenant: Tenant): MessageInitShape<typeof TenantSchema> {
  const { id, displayName, labels, plan, limits } = tenant
  const status = TenantStatus[tenant.status]
  return {
    tenantId: id,
    displayName,
    labels: { ...labels },
    status,
    plan,
    limits: { ...limits },
    ...stamps(tenant),
  }
}

/** The changeable fields of a user. */
export function userFields(message: MessageShape<typeof UserSchema>): UserFields {
  const { displayName, email, labels, disabled } = message
  return { displayName, email, labels, disabled }
}

/** A user as callers see him. */
export function userMessage(user: User): MessageInitShape<typeof UserSchema> {
  const { id, displayName, email, labels, disabled } = user
  return { userId: id, displayName, email, labels: { ...labels }, disabled, ...stamps(user) }
}

/** The changeable fields of an agent. */
export function agentFields(message: MessageShape<typeof AgentSchema>): AgentFields {
  const { displayName, description, userId, labels, disabled } = message
  const metadata = message.metadata ?? {}
  requireSmallJson("agent.metadata", metadata, METADATA_MAX_BYTES)
  return { displayName, description, userId, labels, metadata, disabled }
}

/** An agent as callers see it. */
export function agentMessage(agent: Agent): MessageInitShape<typeof AgentSchema> {
  const { id, displayName, description, userId, labels, metadata, disabled } = agent
  return {
    agentId: id,
    displayName,
    description,
    userId,
    labels: { ...labels },
    metadata,
    disabled,
    ...stamps(agent),
  }
}

/** The changeable fields of a role. */
export function roleFields(message: MessageShape<typeof RoleSchema>): RoleFields {
  const { displayName, description, permissions } = message
  return { displayName, description, permissions }
}

/** A role as callers see it. */
export function roleMessage(role: Role): MessageInitShape<typeof RoleSchema> {
  const { id, displayName, description, permissions } = role
  return { roleId: id, displayName, description, permissions: [...permissions], ...stamps(role) }
}
