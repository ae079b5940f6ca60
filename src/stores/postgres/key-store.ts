/** API keys in PostgreSQL. Only hashes of secrets get here. */
import type { ApiKey, TenantStatus } from "../../domain/control/model.ts"
import type { ApiKeyStore, IssuedKey, KeyRecord, SecretRecord } from "../../domain/control/ports.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import { type CallScope, PLATFORM_TENANT } from "../../domain/kernel/scope.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import { pageOf } from "./control-resource.ts"
import type { Database, Tx } from "./database.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"
import { platformScope } from "./platform-scope.ts"
import { subjectExists } from "./subject-cleanup.ts"

interface KeyRow {
  readonly tenant: string
  readonly id: string
  readonly name: string
  readonly permissions: readonly string[]
  readonly user_id: string
  readonly agent_id: string
  readonly secret_hash: Buffer
  readonly previous_hash: Buffer | null
  readonly previous_expire_time: Date | null
  readonly create_time: Date
  readonly expire_time: Date | null
  readonly revoke_time: Date | null
  readonly revision: bigint
}

const FILTER: FilterColumns = {
  api_key_id: { sql: "id" },
  name: { sql: "name" },
  user_id: { sql: "user_id" },
  agent_id: { sql: "agent_id" },
  create_time: { sql: "create_time" },
  expire_time: { sql: "expire_time" },
  revoke_time: { sql: "revoke_time" },
}

// The platform's scope is not bound to one tenant here: a credential is looked up before its tenant is known.
const FIND = `select k.*, t.status as tenant_status,
    coalesce((select u.disabled from keelplane.users u where u.tenant = k.tenant and u.id = k.user_id), k.user_id <> '')
      or coalesce((select a.disabled from keelplane.agents a where a.tenant = k.tenant and a.id = k.agent_id), k.agent_id <> '')
      as disabled
  from keelplane.api_keys k left join keelplane.tenants t on t.tenant = '*' and t.id = k.tenant
  where k.id = $2 and (k.tenant = $1 or $1 = '*')`

/** The API key store. */
export function createApiKeyStore(deps: ControlDeps): ApiKeyStore {
  const { database } = deps
  const audited = (action: string, id: string) => ({ action, kind: "api_key", id })
  return {
    create: (scope, key, secret) =>
      controlMutation(deps, owner(scope, key.platform), audited("CreateApiKey", key.id), async (tx, now) => {
        if (key.userId !== "") await requireSubject(tx, "user", key.userId)
        if (key.agentId !== "") await requireSubject(tx, "agent", key.agentId)
        const { rows } = await tx.query<KeyRow>({
          text: `insert into keelplane.api_keys
              (tenant, id, name, permissions, user_id, agent_id, secret_hash, create_time, expire_time, revision)
            values ($1, $2, $3, $4::text[], $5, $6, $7, $8, $9, 1) returning *`,
          values: [
            tx.scope.tenant,
            key.id,
            key.name,
            key.permissions,
            key.userId,
            key.agentId,
            secret.hash,
            now,
            dateOf(key.expireTime),
          ],
        })
        return issued(rows[0], key.id, secret)
      }),
    async get(scope, id, platform) {
      const own = owner(scope, platform)
      const { rows } = await database.query<KeyRow>(own, {
        name: "kp_get_api_key",
        text: "select * from keelplane.api_keys where tenant = $1 and id = $2",
        values: [own.tenant, id],
      })
      return keyOf(rows[0] ?? missing(id))
    },
    list: (scope, filter, platform, page) => listKeys(database, owner(scope, platform), filter, page),
    revoke: (scope, id, platform) =>
      controlMutation(deps, owner(scope, platform), audited("RevokeApiKey", id), async (tx, now) => {
        const row = await lockKey(tx, id)
        if (row.revoke_time !== null) return keyOf(row)
        const { rows } = await tx.query<KeyRow>({
          text: `update keelplane.api_keys set revoke_time = $3, revision = revision + 1
            where tenant = $1 and id = $2 returning *`,
          values: [tx.scope.tenant, id, now],
        })
        return keyOf(rows[0] ?? missing(id))
      }),
    rotate: (scope, id, platform, secret, graceUntil) =>
      controlMutation(deps, owner(scope, platform), audited("RotateApiKey", id), (tx, now) =>
        rotate(tx, id, secret, graceUntil, now),
      ),
    find: (scope, id) => findKey(database, scope, id),
  }
}

/** The keys of the platform lie under its own tenant. */
function owner(scope: CallScope, platform: boolean): CallScope {
  return platform ? platformScope(scope) : scope
}

async function listKeys(
  database: Database,
  scope: CallScope,
  filter: Parameters<ApiKeyStore["list"]>[1],
  page: Parameters<ApiKeyStore["list"]>[3],
): ReturnType<ApiKeyStore["list"]> {
  const values: unknown[] = [scope.tenant, page.cursor?.[0] ?? "", page.size + 1]
  const condition = filter === undefined ? "true" : filterSql(filter, FILTER, values)
  const { rows } = await database.query<KeyRow>(scope, {
    text: `select * from keelplane.api_keys where tenant = $1 and id > $2 and ${condition} order by id limit $3`,
    values,
  })
  return pageOf(rows.map(keyOf), page.size, (last) => [last.id])
}

async function rotate(
  tx: Tx,
  id: string,
  secret: SecretRecord,
  graceUntil: number,
  now: Date,
): Promise<IssuedKey> {
  const row = await lockKey(tx, id)
  if (row.revoke_time !== null) throw ended(id, "REVOKED")
  if (row.expire_time !== null && row.expire_time <= now) throw ended(id, "EXPIRED")
  const grace = Math.min(graceUntil, row.expire_time?.getTime() ?? Number.POSITIVE_INFINITY)
  const { rows } = await tx.query<KeyRow>({
    text: `update keelplane.api_keys set previous_hash = secret_hash, previous_expire_time = $3, secret_hash = $4,
        revision = revision + 1
      where tenant = $1 and id = $2 returning *`,
    values: [tx.scope.tenant, id, new Date(grace), secret.hash],
  })
  return issued(rows[0], id, secret)
}

async function lockKey(tx: Tx, id: string): Promise<KeyRow> {
  const { rows } = await tx.query<KeyRow>({
    text: "select * from keelplane.api_keys where tenant = $1 and id = $2 for update",
    values: [tx.scope.tenant, id],
  })
  return rows[0] ?? missing(id)
}

/**
 * Looked up with the platform's sight, for the tenant's status and disabled users decide too; the key itself must be the
 * scope's own.
 */
async function findKey(database: Database, scope: CallScope, id: string): Promise<KeyRecord | undefined> {
  const { rows } = await database.query<
    KeyRow & { readonly tenant_status: TenantStatus | null; readonly disabled: boolean }
  >(platformScope(scope), { name: "kp_find_api_key", text: FIND, values: [scope.tenant, id] })
  const [row] = rows
  if (row === undefined) return undefined
  return {
    key: keyOf(row),
    tenant: row.tenant,
    hash: row.secret_hash,
    previousHash: row.previous_hash ?? undefined,
    disabled: row.disabled,
    tenantStatus: row.tenant_status ?? undefined,
  }
}

async function requireSubject(tx: Tx, kind: "user" | "agent", id: string): Promise<void> {
  if (!(await subjectExists(tx, kind, id))) throw notFound(kind, id)
}

function missing(id: string): never {
  throw notFound("api_key", id)
}

function ended(id: string, state: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `the API key is ${state.toLowerCase()}; create another one`, {
    metadata: { resource: "api_key", name: id, state },
  })
}

function issued(row: KeyRow | undefined, id: string, secret: SecretRecord): IssuedKey {
  return { key: keyOf(row ?? missing(id)), hash: secret.hash, nonce: secret.nonce }
}

function dateOf(time: number | undefined): Date | null {
  return time === undefined ? null : new Date(time)
}

function keyOf(row: KeyRow): ApiKey {
  return {
    id: row.id,
    name: row.name,
    permissions: row.permissions,
    userId: row.user_id,
    agentId: row.agent_id,
    platform: row.tenant === PLATFORM_TENANT,
    createTime: row.create_time.getTime(),
    expireTime: row.expire_time?.getTime(),
    revokeTime: row.revoke_time?.getTime(),
    previousSecretExpireTime: row.previous_expire_time?.getTime(),
    revision: row.revision,
  }
}
