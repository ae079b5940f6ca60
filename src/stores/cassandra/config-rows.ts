/** Configuration changes as rows of their log. */
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { LogRow } from "./segment-rows.ts"

/** A change with what the audit log says of it. */
export interface ConfigChange {
  readonly config: ConfigVersion
  /** The RPC, e.g. `PutConfig`. */
  readonly action: string
}

/** Where a version is, and what can be told without reading it. */
export interface ConfigPlace {
  readonly key: string
  readonly version: bigint
  readonly seq: bigint
  readonly segment: string
  readonly deleted: boolean
  readonly create_time: Date
}

interface StoredChange {
  readonly action: string
  readonly key: string
  readonly version: string
  readonly struct?: JsonObject
  readonly bytes?: string
  readonly contentType?: string
  readonly description: string
  readonly author: string
  readonly createTime: number
  readonly rollbackOf: string
}

/** The change as a row. */
export function rowOf({ config, action }: ConfigChange): LogRow {
  const { key, version, value, description, author, createTime, rollbackOf, sequence } = config
  const stored: StoredChange = {
    action,
    key,
    version: String(version),
    ...valueParts(value),
    description,
    author,
    createTime,
    rollbackOf: String(rollbackOf),
  }
  return { seq: sequence, body: JSON.stringify(stored) }
}

function valueParts(value: ConfigValue | undefined): Pick<StoredChange, "struct" | "bytes" | "contentType"> {
  if (value === undefined) return {}
  if (value.kind === "struct") return { struct: value.struct }
  return { bytes: Buffer.from(value.bytes).toString("base64"), contentType: value.contentType }
}

/** The change in a row. */
export function changeOf({ seq, body }: LogRow): ConfigChange {
  // Only this file writes bodies.
  const stored = JSON.parse(body) as StoredChange
  const value = valueIn(stored)
  const config: ConfigVersion = {
    key: stored.key,
    version: BigInt(stored.version),
    value,
    deleted: value === undefined,
    description: stored.description,
    author: stored.author,
    createTime: stored.createTime,
    rollbackOf: BigInt(stored.rollbackOf),
    sequence: seq,
  }
  return { config, action: stored.action }
}

function valueIn({ struct, bytes, contentType = "" }: StoredChange): ConfigValue | undefined {
  if (struct !== undefined) return { kind: "struct", struct }
  if (bytes === undefined) return undefined
  return { kind: "bytes", bytes: Buffer.from(bytes, "base64"), contentType }
}

/** The place of a change in a segment. */
export function placeOf(
  { key, version, sequence, deleted, createTime }: ConfigVersion,
  segment: string,
): ConfigPlace {
  return { key, version, seq: sequence, segment, deleted, create_time: new Date(createTime) }
}

const DIGITS = 19

/** The segment that begins with a change. */
export function segmentOf(sequence: bigint): string {
  return String(sequence).padStart(DIGITS, "0")
}
