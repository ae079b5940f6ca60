/** Reading configuration: at a version or time, in lists, and as changes. */
import type { ConfigTarget, ConfigVersion } from "../../domain/control/model.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type ConfigRow, configColumns, configOf } from "./config-rows.ts"
import { pageOf } from "./control-resource.ts"
import type { Database } from "./database.ts"

const WITH_VALUES = configColumns(true)

/** NOT_FOUND where there was no value. */
export async function configAt(
  database: Database,
  scope: CallScope,
  key: string,
  at: { readonly version: bigint } | { readonly time: number } | undefined,
): Promise<ConfigVersion> {
  const values: unknown[] = [scope.tenant, key]
  let condition = ""
  if (at !== undefined && "version" in at) condition = ` and v.version = $${values.push(at.version)}`
  if (at !== undefined && "time" in at) condition = ` and v.create_time <= $${values.push(new Date(at.time))}`
  const { rows } = await database.query<ConfigRow>(scope, {
    text: `select ${WITH_VALUES} from keelplane.config_versions v
      where v.tenant = $1 and v.key = $2${condition} order by v.version desc limit 1`,
    values,
  })
  const [row] = rows
  if (row === undefined && at !== undefined && "version" in at) {
    throw notFound("config_version", `${key}@${at.version}`)
  }
  if (row === undefined || row.deleted) throw notFound("config", key)
  return configOf(row)
}

/** Newest first. NOT_FOUND when the key never had a version. */
export async function listConfigVersions(
  database: Database,
  scope: CallScope,
  key: string,
  withValues: boolean,
  page: PageRequest,
): Promise<Page<ConfigVersion>> {
  const { rows } = await database.query<ConfigRow>(scope, {
    text: `select ${configColumns(withValues)} from keelplane.config_versions v
      where v.tenant = $1 and v.key = $2 and ($3::bigint is null or v.version < $3) order by v.version desc limit $4`,
    values: [scope.tenant, key, page.cursor?.[0], page.size + 1],
  })
  if (rows.length === 0 && page.cursor === undefined) throw notFound("config", key)
  return pageOf(rows.map(configOf), page.size, (last) => [String(last.version)])
}

/** Live values by key. */
export async function listConfigs(
  database: Database,
  scope: CallScope,
  prefix: string,
  withValues: boolean,
  page: PageRequest,
): Promise<Page<ConfigVersion>> {
  const { rows } = await database.query<ConfigRow>(scope, {
    text: `select ${configColumns(withValues)} from keelplane.config_heads h
      join keelplane.config_versions v on v.tenant = $1 and v.key = h.key and v.version = h.version
      where h.tenant = $1 and not h.deleted and h.key > $2 and starts_with(h.key, $3) order by h.key limit $4`,
    values: [scope.tenant, page.cursor?.[0] ?? "", prefix, page.size + 1],
  })
  return pageOf(rows.map(configOf), page.size, (last) => [last.key])
}

/** 0 before the first change. */
export async function lastConfigSequence(database: Database, scope: CallScope): Promise<bigint> {
  const { rows } = await database.query<{ last: bigint }>(scope, {
    name: "kp_config_last",
    text: "select last from keelplane.config_sequences where tenant = $1",
    values: [scope.tenant],
  })
  return rows[0]?.last ?? 0n
}

/** Live values as they were at `sequence`, by key. */
export async function configSnapshot(
  database: Database,
  scope: CallScope,
  target: ConfigTarget,
  sequence: bigint,
  afterKey: string | undefined,
  limit: number,
): Promise<readonly ConfigVersion[]> {
  const { condition, value } = targetSql("h.key", target)
  const { rows } = await database.query<ConfigRow>(scope, {
    text: `select ${WITH_VALUES} from keelplane.config_heads h
      cross join lateral (
        select * from keelplane.config_versions c
        where c.tenant = $1 and c.key = h.key and c.sequence <= $3 order by c.version desc limit 1
      ) v
      where h.tenant = $1 and ${condition} and h.key > $4 and not v.deleted order by h.key limit $5`,
    values: [scope.tenant, value, sequence, afterKey ?? "", limit],
  })
  return rows.map(configOf)
}

/** Changes after `sequence`, in order. */
export async function changedConfigs(
  database: Database,
  scope: CallScope,
  target: ConfigTarget,
  sequence: bigint,
  limit: number,
): Promise<readonly ConfigVersion[]> {
  const { condition, value } = targetSql("v.key", target)
  const { rows } = await database.query<ConfigRow>(scope, {
    text: `select ${WITH_VALUES} from keelplane.config_versions v
      where v.tenant = $1 and ${condition} and v.sequence > $3 order by v.sequence limit $4`,
    values: [scope.tenant, value, sequence, limit],
  })
  return rows.map(configOf)
}

function targetSql(column: string, target: ConfigTarget): { condition: string; value: string } {
  return "key" in target
    ? { condition: `${column} = $2`, value: target.key }
    : { condition: `starts_with(${column}, $2)`, value: target.prefix }
}
