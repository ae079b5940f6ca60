/** What the control plane keeps: tenants, users, agents, API keys, roles and configuration. Times are epoch milliseconds. */
import type { JsonObject } from "../kernel/json.ts"

/** Free labels by key. */
export type Labels = Readonly<Record<string, string>>

/** What every stored resource carries. */
export interface Stamped {
  /** 1 at first, one more with every change. */
  readonly revision: bigint
  readonly createTime: number
  readonly updateTime: number
}

/** Whether a tenant may be used. */
export type TenantStatus = "ACTIVE" | "SUSPENDED"

/** The changeable fields of a tenant. */
export interface TenantFields {
  readonly displayName: string
  readonly labels: Labels
  readonly status: TenantStatus
  readonly plan: string
  /** The application's own limits; kept, not enforced. */
  readonly limits: Readonly<Record<string, bigint>>
}

/** One isolated customer. */
export interface Tenant extends TenantFields, Stamped {
  readonly id: string
}

/** The changeable fields of a user. */
export interface UserFields {
  readonly displayName: string
  readonly email: string
  readonly labels: Labels
  readonly disabled: boolean
}

/** A person. */
export interface User extends UserFields, Stamped {
  readonly id: string
}

/** The changeable fields of an agent. */
export interface AgentFields {
  readonly displayName: string
  readonly description: string
  /** The owner; "" for none. */
  readonly userId: string
  readonly labels: Labels
  readonly metadata: JsonObject
  readonly disabled: boolean
}

/** A program that acts. */
export interface Agent extends AgentFields, Stamped {
  readonly id: string
}

/** The changeable fields of a role. */
export interface RoleFields {
  readonly displayName: string
  readonly description: string
  /** Patterns `<type>:<action>`. */
  readonly permissions: readonly string[]
}

/** A named set of permissions. */
export interface Role extends RoleFields, Stamped {
  readonly id: string
}

/** A key without its secret. */
export interface ApiKey {
  readonly id: string
  readonly name: string
  /** What it may call on the daemon: `<plane>.<verb>`, `<plane>.*` or `*`. */
  readonly permissions: readonly string[]
  /** "" for none. */
  readonly userId: string
  /** "" for none. */
  readonly agentId: string
  /** Bound to no tenant. */
  readonly platform: boolean
  readonly createTime: number
  readonly expireTime: number | undefined
  readonly revokeTime: number | undefined
  /** Until when the secret before the last rotation is accepted. */
  readonly previousSecretExpireTime: number | undefined
  readonly revision: bigint
}

/** Whoever may hold a role. */
export interface Subject {
  readonly kind: "user" | "agent" | "key"
  readonly id: string
}

/** A role given to a subject. */
export interface RoleAssignment {
  readonly roleId: string
  readonly subject: Subject
  /** "" for everywhere, else a resource, or a prefix and `/*`. */
  readonly resource: string
  readonly createTime: number
  readonly creator: string
}

/** One permission pattern that a role gives to a holder. */
export interface Grant {
  readonly permission: string
  readonly roleId: string
  readonly resource: string
  readonly holder: Subject
}

/** What a subject may do. */
export interface SubjectGrants {
  readonly subject: Subject
  /** `disabled` covers revoked and expired keys, and keys of a disabled user or agent. */
  readonly state: "active" | "disabled" | "unknown"
  /** Its own and, for a key, those of its user and agent. */
  readonly grants: readonly Grant[]
}

/** What a configuration version holds. */
export type ConfigValue =
  | { readonly kind: "struct"; readonly struct: JsonObject }
  | { readonly kind: "bytes"; readonly bytes: Uint8Array; readonly contentType: string }

/** One version of a configuration key. */
export interface ConfigVersion {
  readonly key: string
  readonly version: bigint
  /** Absent for a deletion, or where values were left out. */
  readonly value: ConfigValue | undefined
  readonly deleted: boolean
  readonly description: string
  readonly author: string
  readonly createTime: number
  /** 0 for none. */
  readonly rollbackOf: bigint
  /** Its place among the tenant's changes; without gaps. */
  readonly sequence: bigint
}

/** What a watch or list looks at. */
export type ConfigTarget = { readonly key: string } | { readonly prefix: string }
