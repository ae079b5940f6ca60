/** What things count against capacities, in bytes. Near the truth and cheap, not exact. */
import type { CacheValue, Content } from "./model.ts"

/** Largest single value. */
export const MAXIMUM_VALUE_BYTES = 1_048_576

/** Largest sum of values in one request or one answer; below the 4 MiB that gRPC clients take by default. */
export const MAXIMUM_BATCH_BYTES = 4_000_000

/** The bytes of the bare value. */
export function contentBytes(content: Content): number {
  switch (content.case) {
    case "data":
      return content.value.byteLength
    case "text":
      return Buffer.byteLength(content.value)
    case "json":
      return Buffer.byteLength(JSON.stringify(content.value))
    default:
      return 8
  }
}

/** The bytes of a value with its media type. */
export function valueBytes(value: CacheValue): number {
  return contentBytes(value.content) + value.contentType.length
}
