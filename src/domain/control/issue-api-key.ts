/** Making and remaking the secrets of API keys. */
import { DomainError } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import { hashToken, sameHash, type TokenMinter } from "./api-key-token.ts"
import type { ApiKey } from "./model.ts"
import { holdsRpcPermission } from "./permissions.ts"
import type { ApiKeyStore, IssuedKey, NewApiKey, SecretRecord } from "./ports.ts"

/** Who asks for a key. */
export interface Caller {
  readonly platform: boolean
  readonly permissions: ReadonlySet<string>
}

/** What issuing needs. */
export interface IssueDeps {
  readonly keys: ApiKeyStore
  readonly minter: TokenMinter
}

/** A key and its token; "" where a repeated call can show it no more because the process that made it is gone. */
export interface IssuedToken {
  readonly key: ApiKey
  readonly token: string
}

/** Creates a key. PERMISSION_DENIED for a permission that the caller lacks, and for a platform key without being platform. */
export async function createApiKey(
  { keys, minter }: IssueDeps,
  scope: CallScope,
  caller: Caller,
  input: Omit<NewApiKey, "id">,
): Promise<IssuedToken> {
  requireMayIssue(caller, input.permissions, input.platform)
  const id = minter.id()
  const issued = await keys.create(scope, { ...input, id }, newSecret(minter, id))
  return shown(minter, issued)
}

/** Gives a key a new secret. The caller must hold every permission of the key, as if he created it. */
export async function rotateApiKey(
  { keys, minter }: IssueDeps,
  scope: CallScope,
  caller: Caller,
  input: { readonly id: string; readonly platform: boolean; readonly graceUntil: number },
): Promise<IssuedToken> {
  requirePlatform(caller, input.platform)
  // Permissions never change, so that there is nothing to race with between this and the rotation.
  const key = await keys.get(scope, input.id, input.platform)
  requireMayIssue(caller, key.permissions, input.platform)
  const secret = newSecret(minter, input.id)
  return shown(minter, await keys.rotate(scope, input.id, input.platform, secret, input.graceUntil))
}

/** PERMISSION_DENIED for touching the platform's keys without being platform. */
export function requirePlatform(caller: Caller, platform: boolean): void {
  if (platform && !caller.platform) throw denied("platform")
}

function requireMayIssue(caller: Caller, permissions: readonly string[], platform: boolean): void {
  requirePlatform(caller, platform)
  for (const permission of permissions) {
    if (!holdsRpcPermission(caller.permissions, permission)) throw denied(permission)
  }
}

function denied(permission: string): DomainError {
  return new DomainError("PERMISSION_DENIED", `a key with "${permission}" needs a caller who has it`, {
    metadata: { permission },
  })
}

function newSecret(minter: TokenMinter, id: string): SecretRecord {
  const nonce = minter.nonce()
  return { nonce, hash: hashToken(minter.token(id, nonce)) }
}

/** The answer may be a replay: then the nonce and id are those of the first call. */
function shown(minter: TokenMinter, { key, nonce, hash }: IssuedKey): IssuedToken {
  const token = minter.token(key.id, nonce)
  return { key, token: sameHash(hashToken(token), hash) ? token : "" }
}
