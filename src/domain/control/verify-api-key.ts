/** Judging an API key token on behalf of an application. */
import type { Clock } from "../kernel/clock.ts"
import type { CallScope } from "../kernel/scope.ts"
import { hashToken, parseToken, sameHash } from "./api-key-token.ts"
import type { ApiKey } from "./model.ts"
import { decide, holdsRpcPermission } from "./permissions.ts"
import type { ApiKeyStore, KeyRecord, RoleStore } from "./ports.ts"

/** Why a token is good or not. */
export type KeyCode = "VALID" | "NOT_FOUND" | "EXPIRED" | "REVOKED" | "DISABLED" | "INSUFFICIENT_PERMISSIONS"

/** The judgement. */
export interface KeyVerdict {
  readonly code: KeyCode
  /** Absent with NOT_FOUND. */
  readonly key: ApiKey | undefined
  /** With INSUFFICIENT_PERMISSIONS: what is missing. */
  readonly missing: readonly string[]
}

const NOT_FOUND: KeyVerdict = { code: "NOT_FOUND", key: undefined, missing: [] }

/**
 * What `token` is worth against the stored key. Nothing is told about a key to one who does not know a secret of it, so the
 * secret is judged first.
 */
export function judgeToken(record: KeyRecord | undefined, token: string, now: number): KeyCode {
  if (record === undefined) return "NOT_FOUND"
  const { key } = record
  const hash = hashToken(token)
  const current = sameHash(hash, record.hash)
  const previous = record.previousHash !== undefined && sameHash(hash, record.previousHash)
  if (!current && !previous) return "NOT_FOUND"
  if (key.revokeTime !== undefined) return "REVOKED"
  if (record.disabled) return "DISABLED"
  if (key.expireTime !== undefined && key.expireTime <= now) return "EXPIRED"
  if (!current && (key.previousSecretExpireTime === undefined || key.previousSecretExpireTime <= now)) {
    return "EXPIRED"
  }
  return "VALID"
}

/** Judges a token of the scope's tenant and the permissions asked for. */
export async function verifyApiKey(
  deps: { readonly keys: ApiKeyStore; readonly roles: RoleStore; readonly clock: Clock },
  scope: CallScope,
  input: { readonly token: string; readonly required: readonly string[]; readonly resource: string },
): Promise<KeyVerdict> {
  const id = parseToken(input.token)
  if (id === undefined) return NOT_FOUND
  const record = await deps.keys.find(scope, id)
  const code = judgeToken(record, input.token, deps.clock.now())
  if (record === undefined || code === "NOT_FOUND") return NOT_FOUND
  if (code !== "VALID") return { code, key: record.key, missing: [] }
  const missing = await missingPermissions(deps.roles, scope, record.key, input)
  return missing.length === 0
    ? { code, key: record.key, missing }
    : { code: "INSUFFICIENT_PERMISSIONS", key: record.key, missing }
}

async function missingPermissions(
  roles: RoleStore,
  scope: CallScope,
  key: ApiKey,
  { required, resource }: { readonly required: readonly string[]; readonly resource: string },
): Promise<string[]> {
  const held = new Set(key.permissions)
  const missing = required.filter(
    (permission) => !permission.includes(":") && !holdsRpcPermission(held, permission),
  )
  const asked = required.filter((permission) => permission.includes(":"))
  if (asked.length === 0) return missing
  const [grants] = await roles.grants(scope, [{ kind: "key", id: key.id }])
  return required.filter((permission) =>
    permission.includes(":")
      ? grants === undefined || !decide(grants, permission, resource).allowed
      : missing.includes(permission),
  )
}
