/** Configuration versions as rows. */
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"

/** A row of config_versions; the values may be left out. */
export interface ConfigRow {
  readonly key: string
  readonly version: bigint
  readonly sequence: bigint
  readonly struct_value?: string | null
  readonly bytes_value?: Buffer | null
  readonly content_type: string
  readonly deleted: boolean
  readonly description: string
  readonly author: string
  readonly create_time: Date
  readonly rollback_of: bigint
}

/** The columns to read. */
export function configColumns(withValues: boolean): string {
  const always =
    "v.key, v.version, v.sequence, v.content_type, v.deleted, v.description, v.author, v.create_time, v.rollback_of"
  return withValues ? `${always}, v.struct_value, v.bytes_value` : always
}

/** The row as a version. */
export function configOf(row: ConfigRow): ConfigVersion {
  return {
    key: row.key,
    version: row.version,
    value: valueIn(row),
    deleted: row.deleted,
    description: row.description,
    author: row.author,
    createTime: row.create_time.getTime(),
    rollbackOf: row.rollback_of,
    sequence: row.sequence,
  }
}

function valueIn(row: ConfigRow): ConfigValue | undefined {
  if (typeof row.struct_value === "string") {
    return { kind: "struct", struct: JSON.parse(row.struct_value) as JsonObject }
  }
  if (row.bytes_value === null || row.bytes_value === undefined) return undefined
  return { kind: "bytes", bytes: row.bytes_value, contentType: row.content_type }
}
