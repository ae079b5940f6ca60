/**
 * How large JSON gets on the wire. A google.protobuf.Struct is a message per value, so `[0,0]` of five bytes becomes more than
 * twenty: limits that are counted on the JSON text alone admit data which then fits into no answer.
 */
import type { JsonObject, JsonValue } from "./json.ts"

/** Bytes of a length prefix. */
function varint(length: number): number {
  let bytes = 1
  for (let rest = length; rest >= 128; rest = Math.floor(rest / 128)) bytes++
  return bytes
}

/** A field with a one-byte tag and a length prefix. */
const prefixed = (length: number): number => 1 + varint(length) + length

/** Bytes of a value as google.protobuf.Value. */
function valueBytes(value: JsonValue): number {
  if (value === null || typeof value === "boolean") return 2
  if (typeof value === "number") return 9
  if (typeof value === "string") return prefixed(Buffer.byteLength(value))
  if (Array.isArray(value)) {
    let items = 0
    for (const item of value) items += prefixed(valueBytes(item))
    return prefixed(items)
  }
  return prefixed(structBytes(value))
}

/** Bytes of an object encoded as google.protobuf.Struct, exactly. */
export function structBytes(object: JsonObject): number {
  let bytes = 0
  for (const [key, value] of Object.entries(object)) {
    bytes += prefixed(prefixed(Buffer.byteLength(key)) + prefixed(valueBytes(value)))
  }
  return bytes
}
