/** API keys as credentials of the daemon itself: a token becomes a caller. */
import { createHash } from "node:crypto"
import type { Clock } from "../kernel/clock.ts"
import { DomainError, isStoreAway } from "../kernel/errors.ts"
import { parseTenantId, type TenantId } from "../kernel/scope.ts"
import { parseToken } from "./api-key-token.ts"
import { AWAY_MS, lookUpScope } from "./look-up.ts"
import type { ApiKeyStore, KeyRecord } from "./ports.ts"
import type { ControlSignals } from "./signals.ts"
import { judgeToken } from "./verify-api-key.ts"

/** What a good token says about its bearer. */
export interface AuthenticatedKey {
  readonly principal: {
    /** `key:<id>` */
    readonly id: string
    /** May act for every tenant. */
    readonly platform: boolean
    readonly permissions: ReadonlySet<string>
  }
  /** The tenant the key is bound to; undefined for a key of the platform. */
  readonly tenant: TenantId | undefined
}

/** Turns tokens into callers. */
export interface ApiKeyAuthenticator {
  /** Without a promise where memory has the answer. Throws or rejects with UNAUTHENTICATED, or with the store's failure. */
  authenticate(token: string): AuthenticatedKey | Promise<AuthenticatedKey>
  /** Stops listening to changes. */
  close(): void
}

/** Bounds of the memory of verified keys. */
export interface ApiKeyAuthenticatorOptions {
  /** How long a revocation by another daemon may go unnoticed; 10000 by default. Those made here are seen at once. */
  readonly ttlMs?: number
  /** How long a refusal is remembered; 1000 by default. */
  readonly negativeTtlMs?: number
  /** Most tokens remembered; 10000 by default. */
  readonly maxEntries?: number
  /**
   * How long a key that was verified keeps working while the store is away; 300000 by default. Never past the key's own
   * expiry, but a revocation by another daemon is not seen meanwhile.
   */
  readonly graceMs?: number
}

interface Entry {
  /** undefined for a token that was refused. */
  readonly caller: AuthenticatedKey | undefined
  readonly until: number
  /** Until when it is believed while the store is away. */
  readonly graceUntil: number
}

/** An authenticator over the key store. Tokens are remembered by their hash, never themselves. */
export function createApiKeyAuthenticator(
  deps: { readonly keys: ApiKeyStore; readonly signals: ControlSignals; readonly clock: Clock },
  options: ApiKeyAuthenticatorOptions = {},
): ApiKeyAuthenticator {
  const { ttlMs = 10_000, negativeTtlMs = 1_000, maxEntries = 10_000, graceMs = 300_000 } = options
  const entries = new Map<string, Entry>()
  // A look-up that was under way while a key changed may be old: it is used once and not remembered.
  let generation = 0
  // A look-up has just found the store away: then nobody whose key is known waits for the next one.
  let awayUntil = 0
  const refreshing = new Set<string>()
  const close = deps.signals.onIdentityChange(() => {
    generation++
    entries.clear()
  })

  function remember(digest: string, entry: Entry): void {
    entries.delete(digest)
    const oldest = entries.size >= maxEntries ? entries.keys().next().value : undefined
    if (oldest !== undefined) entries.delete(oldest)
    entries.set(digest, entry)
  }

  /** Who a key that was verified belongs to, as long as that is believed without the store. */
  function believed(digest: string): AuthenticatedKey | undefined {
    const known = entries.get(digest)
    return known !== undefined && known.graceUntil > deps.clock.now() ? known.caller : undefined
  }

  function refresh(id: string, token: string, digest: string): void {
    if (refreshing.has(digest)) return
    refreshing.add(digest)
    // What it finds out is remembered, and that a key is bad now as well.
    look(id, token, digest)
      .catch(() => undefined)
      .finally(() => refreshing.delete(digest))
  }

  async function look(id: string, token: string, digest: string): Promise<AuthenticatedKey> {
    const asked = generation
    let record: KeyRecord | undefined
    try {
      record = await deps.keys.find(lookUpScope(), id)
    } catch (error) {
      if (isStoreAway(error)) awayUntil = deps.clock.now() + AWAY_MS
      const known = isStoreAway(error) ? believed(digest) : undefined
      if (known === undefined) throw error
      return known
    }
    awayUntil = 0
    const now = deps.clock.now()
    const code = judgeToken(record, token, now)
    const caller = record !== undefined && code === "VALID" ? callerOf(record) : undefined
    if (asked === generation) {
      const until = caller === undefined ? now + negativeTtlMs : validUntil(record, now, now + ttlMs)
      const graceUntil = caller === undefined ? 0 : validUntil(record, now, now + graceMs)
      remember(digest, { caller, until, graceUntil })
    }
    return admit(caller)
  }

  return {
    authenticate(token) {
      const id = parseToken(token)
      if (id === undefined) throw refused()
      const digest = createHash("sha256").update(token).digest("base64")
      const known = entries.get(digest)
      if (known !== undefined && known.until > deps.clock.now()) return admit(known.caller)
      const meanwhile = awayUntil > deps.clock.now() ? believed(digest) : undefined
      if (meanwhile === undefined) return look(id, token, digest)
      refresh(id, token, digest)
      return meanwhile
    },
    close,
  }
}

/** The earliest of `limit` and the times after `now` at which the record's verdict may change. */
function validUntil(record: KeyRecord | undefined, now: number, limit: number): number {
  const times = [record?.key.expireTime, record?.key.previousSecretExpireTime]
  return Math.min(limit, ...times.filter((time): time is number => time !== undefined && time > now))
}

function callerOf({ key, tenant }: KeyRecord): AuthenticatedKey | undefined {
  const bound = key.platform ? undefined : parseTenantId(tenant)
  if (!key.platform && bound === undefined) return undefined
  return {
    principal: { id: `key:${key.id}`, platform: key.platform, permissions: new Set(key.permissions) },
    tenant: bound,
  }
}

function admit(caller: AuthenticatedKey | undefined): AuthenticatedKey {
  if (caller === undefined) throw refused()
  return caller
}

function refused(): DomainError {
  return new DomainError("UNAUTHENTICATED", "the API key is unknown, expired or revoked")
}
