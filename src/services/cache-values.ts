/** Values, times and errors of CacheService between messages and domain. */
import { fromJson, type MessageInitShape, toJson } from "@bufbuild/protobuf"
import {
  type Duration,
  type Timestamp,
  type TimestampSchema,
  type Value,
  ValueSchema,
} from "@bufbuild/protobuf/wkt"
import type { CacheEntry, CacheValue, Content, Expiration } from "../domain/cache/model.ts"
import { contentBytes, MAXIMUM_VALUE_BYTES } from "../domain/cache/size.ts"
import { DomainError, invalidField, limitExceeded } from "../domain/kernel/errors.ts"
import type { JsonValue } from "../domain/kernel/json.ts"
import type { CacheEntrySchema, CacheValueSchema } from "../gen/keelplane/v1/cache_service_pb.ts"

/** The oneof of a message that carries a value. */
export interface ValueMessage {
  readonly value:
    | Exclude<Content, { case: "json" }>
    | { readonly case: "json"; readonly value: Value }
    | { readonly case: undefined; readonly value?: undefined }
  readonly contentType: string
}

const NO_TAGS: string[] = []
const EARLIEST_MS = -62_135_596_800_000
const LATEST_MS = 253_402_300_799_999
const LONGEST_TTL_MS = 252_288_000_000

/** The value in a request; `path` is its place in the request. */
export function readValue(message: ValueMessage, path = ""): CacheValue {
  const { value: given, contentType } = message
  if (given.case === undefined)
    throw invalidField(`${path}value`, "is missing: set data, text, json, integer or number")
  const content: Content = given.case === "json" ? { case: "json", value: jsonOf(given.value, path) } : given
  if (content.case === "number" && !Number.isFinite(content.value)) {
    throw invalidField(`${path}number`, "is not finite")
  }
  const bytes = contentBytes(content)
  if (bytes > MAXIMUM_VALUE_BYTES) throw limitExceeded(`${path}${content.case}`, bytes, MAXIMUM_VALUE_BYTES)
  return { content, contentType }
}

function jsonOf(value: Value, path: string): JsonValue {
  try {
    return toJson(ValueSchema, value)
  } catch (cause) {
    throw new DomainError(
      "INVALID_FIELD",
      `${path}json: is not a JSON value (unset, NaN or infinite inside)`,
      {
        metadata: { field: `${path}json` },
        violations: [
          { field: `${path}json`, description: "is not a JSON value (unset, NaN or infinite inside)" },
        ],
        cause,
      },
    )
  }
}

/** A value for an answer. */
export function toValueMessage(value: CacheValue): MessageInitShape<typeof CacheValueSchema> {
  return { value: toOneof(value.content), contentType: value.contentType }
}

/** A stored value for an answer. */
export function toEntryMessage(entry: CacheEntry): MessageInitShape<typeof CacheEntrySchema> {
  return {
    value: toOneof(entry.content),
    contentType: entry.contentType,
    revision: entry.revision,
    expireTime: toTimestamp(entry.expireTimeMs),
    tags: entry.tags.length === 0 ? NO_TAGS : [...entry.tags],
  }
}

function toOneof(content: Content): Exclude<Content, { case: "json" }> | { case: "json"; value: Value } {
  return content.case === "json" ? { case: "json", value: fromJson(ValueSchema, content.value) } : content
}

/** Infinity is unset. */
export function toTimestamp(ms: number): MessageInitShape<typeof TimestampSchema> | undefined {
  if (ms === Number.POSITIVE_INFINITY) return undefined
  const whole = Math.min(Math.max(Math.ceil(ms), EARLIEST_MS), LATEST_MS)
  const seconds = Math.floor(whole / 1_000)
  return { seconds: BigInt(seconds), nanos: (whole - seconds * 1_000) * 1_000_000 }
}

/** The expiration oneof of a request. */
export function expirationOf(
  given:
    | { readonly case: "expireTime"; readonly value: Timestamp }
    | { readonly case: "ttl"; readonly value: Duration }
    | { readonly case: "noExpiry"; readonly value: boolean }
    | { readonly case: undefined },
): Expiration {
  switch (given.case) {
    case "expireTime":
      return { atMs: momentOf(given.value) }
    case "ttl":
      return { ttlMs: durationMs(given.value, "ttl", 1, LONGEST_TTL_MS) }
    case "noExpiry":
      return "never"
    default:
      return undefined
  }
}

function momentOf({ seconds, nanos }: Timestamp): number {
  const ms = Number(seconds) * 1_000 + Math.ceil(nanos / 1e6)
  if (nanos >= 0 && nanos < 1e9 && ms >= EARLIEST_MS && ms <= LATEST_MS) return ms
  throw invalidField("expire_time", "is not a time in the years 1 to 9999")
}

/** A duration in whole milliseconds, rounded up. Raises INVALID_FIELD outside `least` to `most`. */
export function durationMs({ seconds, nanos }: Duration, field: string, least: number, most: number): number {
  const ms = Number(seconds) * 1_000 + Math.ceil(nanos / 1e6)
  if (Math.abs(nanos) < 1e9 && ms >= least && ms <= most) return ms
  throw invalidField(field, `is not within ${least} ms and ${most} ms`)
}
