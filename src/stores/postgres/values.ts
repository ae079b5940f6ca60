/**
 * JavaScript values as PostgreSQL parameters and back.
 *
 * Parameters: null/undefined -> null; string, number, boolean, bigint -> text; Date -> timestamptz in UTC; Uint8Array -> bytea;
 * array -> PostgreSQL array (so a JSON array must be given as `JSON.stringify(value)`); any other object -> JSON.
 * Columns: int2/int4/oid/float -> number, int8 -> bigint, numeric -> string, bool -> boolean, timestamptz -> Date,
 * json/jsonb -> parsed, bytea -> Buffer, text[]/int8[]/... -> array of those, everything else (vector too) -> string.
 */
import pg from "pg"
import { DomainError, invalidField } from "../../domain/kernel/errors.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"

/** What goes over the wire: text, binary or null. */
export type WireValue = string | Buffer | null

/** Turns one column's text into its value. */
export type ColumnParser = (text: string) => unknown

/**
 * Whether PostgreSQL can store `text` unchanged: it has no U+0000 and no lone surrogate. Keys that differ only in such a
 * character would otherwise collide.
 */
export function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0")
}

/** Throws INVALID_FIELD naming `field` unless {@link isStorableText}. */
export function requireStorableText(field: string, text: string): void {
  if (!isStorableText(text)) throw invalidField(field, "must not contain U+0000 or half of a surrogate pair")
}

/** Throws INVALID_FIELD naming `field` when a key or string anywhere inside `value` cannot be stored. */
export function requireStorableJson(field: string, value: JsonValue): void {
  if (typeof value === "string") requireStorableText(field, value)
  else if (Array.isArray(value)) {
    for (const item of value) requireStorableJson(field, item)
  } else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      requireStorableText(field, key)
      requireStorableJson(field, item)
    }
  }
}

/** One parameter as it goes over the wire. Throws INVALID_FIELD for text that PostgreSQL cannot store. */
export function toWire(value: unknown): WireValue {
  if (value === null || value === undefined) return null
  switch (typeof value) {
    case "string":
      return storable(value)
    case "number":
    case "bigint":
    case "boolean":
      return String(value)
    case "object":
      return objectToWire(value)
    default:
      throw new DomainError("INTERNAL", `a ${typeof value} is no SQL parameter`)
  }
}

function objectToWire(value: object): string | Buffer {
  if (Buffer.isBuffer(value)) return value
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  if (value instanceof Date) return dateToWire(value)
  if (Array.isArray(value)) return arrayToWire(value)
  return storableJson(JSON.stringify(value))
}

function dateToWire(date: Date): string {
  if (Number.isNaN(date.getTime())) throw unstorable()
  const text = date.toISOString()
  // Years outside 0..9999 come as ±YYYYYY, which PostgreSQL does not read.
  if (text.startsWith("+") || text.startsWith("-")) throw unstorable()
  return text
}

function arrayToWire(values: readonly unknown[]): string {
  let text = "{"
  for (let i = 0; i < values.length; i++) {
    if (i > 0) text += ","
    const value = values[i]
    if (Array.isArray(value)) {
      text += arrayToWire(value)
      continue
    }
    const wire = toWire(value)
    if (wire === null) text += "NULL"
    else if (typeof wire !== "string") text += `"\\\\x${wire.toString("hex")}"`
    else if (typeof value === "string" || typeof value === "object") text += quoted(wire)
    else text += wire
  }
  return `${text}}`
}

const ESCAPED = /["\\]/

function quoted(text: string): string {
  if (!ESCAPED.test(text)) return `"${text}"`
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`
}

function storable(text: string): string {
  if (!isStorableText(text)) throw unstorable()
  return text
}

/** JSON text has its control characters and lone surrogates escaped, so the escapes are what to look for. */
function storableJson(text: string): string {
  if (text.includes("\\u0000") || text.includes("\\ud")) requireStorableJson("value", JSON.parse(text))
  return text
}

function unstorable(): DomainError {
  return new DomainError(
    "INVALID_FIELD",
    "a value cannot be stored: text must be well-formed Unicode without U+0000, times must lie in the years 1 to 9999",
  )
}

const { builtins, getTypeParser } = pg.types
const INT8_ARRAY = 1016

const parseAnyTime: ColumnParser = getTypeParser(builtins.TIMESTAMPTZ, "text")

const MINUS = 45
const DOT = 46
const ZERO = 48

/** `2026-01-02 03:04:05[.678901]+00`, as sessions have it, which run in UTC; what looks otherwise goes to the library. */
function parseTime(text: string): unknown {
  const zone = text.length - 3
  const hasFraction = text.charCodeAt(19) === DOT
  const isPlain =
    text.charCodeAt(4) === MINUS &&
    text.charCodeAt(0) !== ZERO &&
    text.endsWith("+00") &&
    (hasFraction ? zone > 20 : zone === 19)
  if (!isPlain) return parseAnyTime(text)
  let millis = 0
  for (let at = 20, worth = 100; hasFraction && at < zone && worth >= 1; at++, worth /= 10) {
    millis += (text.charCodeAt(at) - ZERO) * worth
  }
  const year = twoDigits(text, 0) * 100 + twoDigits(text, 2)
  return new Date(
    Date.UTC(
      year,
      twoDigits(text, 5) - 1,
      twoDigits(text, 8),
      twoDigits(text, 11),
      twoDigits(text, 14),
      twoDigits(text, 17),
      millis,
    ),
  )
}

function twoDigits(text: string, at: number): number {
  return (text.charCodeAt(at) - ZERO) * 10 + text.charCodeAt(at + 1) - ZERO
}

const own = new Map<number, ColumnParser>([
  [builtins.TIMESTAMPTZ, parseTime],
  [builtins.INT8, BigInt],
  [INT8_ARRAY, (text) => (text === "{}" ? [] : text.slice(1, -1).split(",").map(toBigIntOrNull))],
  [builtins.TEXT, (text) => text],
])

function toBigIntOrNull(text: string): bigint | null {
  return text === "NULL" ? null : BigInt(text)
}

/** The parser of a column by its type's oid. */
export function columnParser(typeOid: number): ColumnParser {
  const known = own.get(typeOid)
  if (known !== undefined) return known
  const parser: ColumnParser = getTypeParser(typeOid, "text")
  own.set(typeOid, parser)
  return parser
}
