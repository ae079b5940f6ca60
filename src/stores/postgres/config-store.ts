/** Versioned configuration in PostgreSQL. */
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import type { ConfigStore } from "../../domain/control/ports.ts"
import { DomainError, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import {
  changedConfigs,
  configAt,
  configSnapshot,
  lastConfigSequence,
  listConfigs,
  listConfigVersions,
} from "./config-queries.ts"
import { type ConfigRow, configOf } from "./config-rows.ts"
import { type ControlDeps, controlMutation } from "./control-mutation.ts"
import type { Tx } from "./database.ts"

/** The configuration store. */
export function createConfigStore(deps: ControlDeps): ConfigStore {
  const { database } = deps
  const audited = (action: string, key: string) => ({ action, kind: "config", id: key })
  return {
    put: (scope, key, value, { ifVersion, description }) =>
      controlMutation(deps, scope, audited("PutConfig", key), async (tx, now) => {
        const head = await lockHead(tx, key, ifVersion)
        return append(tx, { key, head, value, description, rollbackOf: 0n, now })
      }),
    rollback: (scope, key, version, { ifVersion, description }) =>
      controlMutation(deps, scope, audited("RollbackConfig", key), async (tx, now) => {
        const head = await lockHead(tx, key, ifVersion)
        const value = await versionValue(tx, key, version)
        return append(tx, { key, head, value, description, rollbackOf: version, now })
      }),
    delete: (scope, key, { ifVersion, description }) =>
      controlMutation(deps, scope, audited("DeleteConfig", key), async (tx, now) => {
        const head = await lockHead(tx, key, ifVersion)
        if (head.live === 0n) throw notFound("config", key)
        return append(tx, { key, head, value: undefined, description, rollbackOf: 0n, now })
      }),
    get: (scope, key, at) => configAt(database, scope, key, at),
    listVersions: (scope, key, withValues, page) =>
      listConfigVersions(database, scope, key, withValues, page),
    list: (scope, prefix, withValues, page) => listConfigs(database, scope, prefix, withValues, page),
    lastSequence: (scope) => lastConfigSequence(database, scope),
    snapshot: (scope, target, sequence, afterKey, limit) =>
      configSnapshot(database, scope, target, sequence, afterKey, limit),
    changes: (scope, target, sequence, limit) => changedConfigs(database, scope, target, sequence, limit),
  }
}

/** Where a key stands while this transaction holds it. */
interface Head {
  /** The last version, also when that is a deletion. */
  readonly version: bigint
  /** The same, but 0 for a deletion. */
  readonly live: bigint
  /** The tenant's next sequence. */
  readonly sequence: bigint
}

/**
 * Takes the tenant's next sequence and with it the right to write: whoever comes next waits for this transaction to end, so
 * that sequences are committed in their order. REVISION_MISMATCH.
 */
async function lockHead(tx: Tx, key: string, ifVersion: bigint | undefined): Promise<Head> {
  const { tenant } = tx.scope
  const taken = await tx.query<{ last: bigint }>({
    name: "kp_config_sequence",
    text: `insert into keelplane.config_sequences as s (tenant, last) values ($1, 1)
      on conflict (tenant) do update set last = s.last + 1 returning last`,
    values: [tenant],
  })
  const { rows } = await tx.query<{ version: bigint; deleted: boolean }>({
    name: "kp_config_head",
    text: "select version, deleted from keelplane.config_heads where tenant = $1 and key = $2",
    values: [tenant, key],
  })
  const version = rows[0]?.version ?? 0n
  const live = rows[0]?.deleted === false ? version : 0n
  if (ifVersion !== undefined && ifVersion !== live) throw revisionMismatch("config", key, ifVersion, live)
  return { version, live, sequence: taken.rows[0]?.last ?? 0n }
}

interface NewVersion {
  readonly key: string
  readonly head: Head
  /** Absent for a deletion. */
  readonly value: ConfigValue | undefined
  readonly description: string
  readonly rollbackOf: bigint
  readonly now: Date
}

async function append(
  tx: Tx,
  { key, head, value, description, rollbackOf, now }: NewVersion,
): Promise<ConfigVersion> {
  const { tenant, actor } = tx.scope
  const version = head.version + 1n
  const { rows } = await tx.query<ConfigRow>({
    name: "kp_config_append",
    text: `insert into keelplane.config_versions (tenant, key, version, sequence, struct_value, bytes_value, content_type,
        deleted, description, author, create_time, rollback_of)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, greatest($11::timestamptz,
        (select max(create_time) from keelplane.config_versions where tenant = $1 and key = $2 and version = $13)), $12)
      returning *`,
    values: [
      tenant,
      key,
      version,
      head.sequence,
      value?.kind === "struct" ? JSON.stringify(value.struct) : null,
      value?.kind === "bytes" ? value.bytes : null,
      value?.kind === "bytes" ? value.contentType : "",
      value === undefined,
      description,
      actor,
      now,
      rollbackOf,
      head.version,
    ],
  })
  await tx.query({
    name: "kp_config_move",
    text: `insert into keelplane.config_heads (tenant, key, version, deleted) values ($1, $2, $3, $4)
      on conflict (tenant, key) do update set version = excluded.version, deleted = excluded.deleted`,
    values: [tenant, key, version, value === undefined],
  })
  const [row] = rows
  if (row === undefined) throw notFound("config", key)
  return configOf(row)
}

async function versionValue(tx: Tx, key: string, version: bigint): Promise<ConfigValue> {
  const { rows } = await tx.query<ConfigRow>({
    text: "select * from keelplane.config_versions where tenant = $1 and key = $2 and version = $3",
    values: [tx.scope.tenant, key, version],
  })
  const [row] = rows
  if (row === undefined) throw notFound("config_version", `${key}@${version}`)
  const { value } = configOf(row)
  if (value !== undefined) return value
  throw new DomainError(
    "FAILED_PRECONDITION",
    `version ${version} of "${key}" is a deletion; it has no value`,
    {
      metadata: { resource: "config_version", name: `${key}@${version}`, state: "DELETED" },
    },
  )
}
