/** Evaluates a filter in memory, with the meaning written down in ./filter. */
import type { JsonValue } from "../json.ts"
import type { CompareOp, FieldRef, Filter, FilterValue } from "./filter.ts"

/**
 * A field's value: strings and enum names as text, int as bigint or number, timestamps as milliseconds since the epoch, json
 * as it is; undefined or null where the field has none.
 */
export type FieldValue = JsonValue | bigint | undefined

/** True where the record behind `read` satisfies the filter. `read` is called with field names of the table only. */
export function matchesFilter(filter: Filter, read: (field: string) => FieldValue): boolean {
  switch (filter.kind) {
    case "and":
      return filter.terms.every((term) => matchesFilter(term, read))
    case "or":
      return filter.terms.some((term) => matchesFilter(term, read))
    case "not":
      return !matchesFilter(filter.term, read)
    case "present":
      return hasValue(resolve(filter.ref, read))
    case "has": {
      const value = resolve(filter.ref, read)
      return hasValue(value) && contains(value, filter.value)
    }
    default: {
      const value = resolve(filter.ref, read)
      return hasValue(value) && compare(value, filter.op, filter.value)
    }
  }
}

function hasValue(value: FieldValue): value is Exclude<FieldValue, null | undefined> {
  return value !== undefined && value !== null
}

function resolve(ref: FieldRef, read: (field: string) => FieldValue): FieldValue {
  let value = read(ref.field)
  for (const segment of ref.path) {
    if (!isObject(value) || !Object.hasOwn(value, segment)) return undefined
    value = value[segment]
  }
  return value
}

function isObject(value: FieldValue): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

function contains(value: Exclude<FieldValue, null | undefined>, wanted: FilterValue): boolean {
  if (wanted.type === "timestamp") return false
  const literal = wanted.value
  if (Array.isArray(value)) return value.some((element) => element === literal)
  if (isObject(value)) return typeof literal === "string" && Object.hasOwn(value, literal)
  if (typeof value === "string") return typeof literal === "string" && value.includes(literal)
  return value === literal
}

function compare(value: Exclude<FieldValue, null | undefined>, op: CompareOp, wanted: FilterValue): boolean {
  const order = orderOf(value, wanted)
  if (order === undefined) return op === "!="
  switch (op) {
    case "=":
      return order === 0
    case "!=":
      return order !== 0
    case "<":
      return order < 0
    case "<=":
      return order <= 0
    case ">":
      return order > 0
    default:
      return order >= 0
  }
}

/** Undefined where the two are of different types. */
function orderOf(value: Exclude<FieldValue, null | undefined>, wanted: FilterValue): number | undefined {
  const literal = wanted.type === "timestamp" ? wanted.ms : wanted.value
  if (typeof value === "string" && typeof literal === "string") return compareUtf8(value, literal)
  if (isNumeric(value) && isNumeric(literal)) return value < literal ? -1 : value > literal ? 1 : 0
  if (typeof value === "boolean" && typeof literal === "boolean") return Number(value) - Number(literal)
  return undefined
}

function isNumeric(value: FieldValue): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint"
}

/** Orders two strings by their UTF-8 bytes, which is by code point and not, as `<` does, by UTF-16 unit. */
export function compareUtf8(a: string, b: string): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    let x = a.charCodeAt(i)
    let y = b.charCodeAt(i)
    if (x === y) continue
    // Surrogates stand for code points above U+FFFF and so sort after everything else.
    if (x >= 0xd800 && x <= 0xdfff) x += 0x10000
    if (y >= 0xd800 && y <= 0xdfff) y += 0x10000
    return x - y
  }
  return a.length - b.length
}
