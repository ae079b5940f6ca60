/** Items as lines of JSON, and back. What comes from a file is checked field by field. */
import { DomainError } from "../kernel/errors.ts"
import type { JsonObject, JsonValue } from "../kernel/json.ts"
import { baseType, type FieldType, fieldsOf, type Item, KINDS, type Kind } from "./model.ts"

/** A line without its end. */
export function encodeItem(kind: Kind, item: Item): string {
  const line: JsonObject = { kind }
  for (const [name, type] of fieldsOf(kind)) line[name] = encodeValue(type, item[name])
  return JSON.stringify(line)
}

function encodeValue(type: FieldType, value: unknown): JsonValue {
  if (value === null || value === undefined) return null
  switch (baseType(type).base) {
    case "int64":
      return String(value)
    case "time":
      return new Date(value as number).toISOString()
    case "bytes": {
      const bytes = value as Uint8Array
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
    }
    default:
      // Adapters give each field the type that the model says.
      return value as JsonValue
  }
}

/** The item in a parsed line. Throws FAILED_PRECONDITION saying which line is wrong. */
export function decodeItem(line: JsonObject, number: number): { readonly kind: Kind; readonly item: Item } {
  const { kind } = line
  if (typeof kind !== "string" || !isKind(kind)) {
    throw malformed(number, "is of no kind that this version knows")
  }
  const item: Record<string, unknown> = {}
  for (const [name, type] of fieldsOf(kind)) {
    const value = line[name]
    const { base, nullable } = baseType(type)
    if (value === null || value === undefined) {
      if (!nullable && !(base === "json" && value === null)) throw malformed(number, `has no ${name}`)
      item[name] = null
      continue
    }
    const decoded = decodeValue(base, value)
    if (decoded === undefined) throw malformed(number, `has a ${name} that is no ${base}`)
    item[name] = decoded
  }
  return { kind, item }
}

function isKind(text: string): text is Kind {
  return Object.hasOwn(KINDS, text)
}

/** Undefined where the value is not of the type. */
function decodeValue(base: ReturnType<typeof baseType>["base"], value: JsonValue): unknown {
  switch (base) {
    case "text":
      return typeof value === "string" ? value : undefined
    case "int64":
      return typeof value === "string" && /^-?\d{1,19}$/.test(value) ? BigInt(value) : undefined
    case "int":
      return Number.isInteger(value) ? value : undefined
    case "bool":
      return typeof value === "boolean" ? value : undefined
    case "time": {
      const time = typeof value === "string" ? Date.parse(value) : Number.NaN
      return Number.isNaN(time) ? undefined : time
    }
    case "bytes":
      return typeof value === "string" ? new Uint8Array(Buffer.from(value, "base64")) : undefined
    case "texts":
      return Array.isArray(value) && value.every((each) => typeof each === "string") ? value : undefined
    case "ints":
      return Array.isArray(value) && value.every((each) => Number.isInteger(each)) ? value : undefined
    case "json":
      return value
  }
}

/** FAILED_PRECONDITION: the archive cannot be used. */
export function malformed(line: number, what: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `the archive is damaged: line ${line} ${what}`, {
    metadata: { line: String(line) },
  })
}
