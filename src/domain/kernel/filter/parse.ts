/** Type-checks a filter against the fields a caller may use. */
import type { CompareOp, FieldRef, FieldSpec, FieldTable, Filter, FilterValue } from "./filter.ts"
import { filterError } from "./lexer.ts"
import { parseSyntax, type RawRestriction, type RawValue, type Syntax } from "./syntax.ts"

/**
 * Parses filter text into a tree that fits `fields`. Undefined for blank text: no filter.
 * Throws INVALID_FILTER with metadata `position` (0-based byte offset) and, where it helps, `expected`.
 */
export function parseFilter(text: string, fields: FieldTable): Filter | undefined {
  if (text === "") return undefined
  const syntax = parseSyntax(text)
  return syntax === undefined ? undefined : check(text, syntax, fields)
}

function check(source: string, node: Syntax, fields: FieldTable): Filter {
  switch (node.kind) {
    case "not":
      return { kind: "not", term: check(source, node.term, fields) }
    case "restriction":
      return restriction(source, node, fields)
    default:
      return { kind: node.kind, terms: node.terms.map((term) => check(source, term, fields)) }
  }
}

function restriction(source: string, node: RawRestriction, fields: FieldTable): Filter {
  const [field = "", ...path] = node.path
  const spec = Object.hasOwn(fields, field) ? fields[field] : undefined
  if (spec === undefined) {
    throw filterError(source, node.at, `unknown field ${field}`, `one of ${Object.keys(fields).join(", ")}`)
  }
  if (path.length > 0 && spec.type !== "json") {
    throw filterError(source, node.at, `${field} has no parts`, field)
  }
  const ref: FieldRef = { field, type: spec.type, path }
  const { op, value } = node
  if (value.kind === "star") {
    if (op !== ":") throw filterError(source, value.at, "* goes with the : operator only", "a value")
    return { kind: "present", ref }
  }
  if (value.kind === "word" && value.text === "null") return nullTest(source, ref, op, value)
  const typed = typedValue(source, spec, value)
  if (op !== ":") {
    ordered(source, op, typed, value)
    return { kind: "compare", ref, op, value: typed }
  }
  const contains = spec.type === "string" || spec.type === "json"
  return contains ? { kind: "has", ref, value: typed } : { kind: "compare", ref, op: "=", value: typed }
}

function nullTest(source: string, ref: FieldRef, op: CompareOp | ":", value: RawValue): Filter {
  if (op === "!=") return { kind: "present", ref }
  if (op === "=") return { kind: "not", term: { kind: "present", ref } }
  throw filterError(source, value.at, `null cannot be used with ${op}`, "= or !=")
}

function ordered(source: string, op: CompareOp, typed: FilterValue, value: RawValue): void {
  if (op === "=" || op === "!=" || (typed.type !== "bool" && typed.type !== "enum")) return
  throw filterError(source, value.at, `${typed.type} values have no order`, "= or !=")
}

function typedValue(source: string, spec: FieldSpec, value: RawValue): FilterValue {
  switch (spec.type) {
    case "string":
      if (value.kind === "number") break
      return { type: "string", value: value.text }
    case "int":
      if (value.kind !== "number" || !/^-?\d+$/.test(value.text)) break
      return int(source, value)
    case "double":
      if (value.kind !== "number") break
      return double(source, value)
    case "bool":
      if (value.kind !== "word" || (value.text !== "true" && value.text !== "false")) break
      return { type: "bool", value: value.text === "true" }
    case "timestamp":
      if (value.kind !== "string") break
      return timestamp(source, value)
    case "enum":
      if (value.kind === "number" || spec.values?.includes(value.text) !== true) break
      return { type: "enum", value: value.text }
    default:
      return json(source, value)
  }
  throw filterError(source, value.at, `this is not a value of type ${spec.type}`, expectedFor(spec))
}

const EXAMPLES = {
  string: "a string in quotes",
  int: "a whole number",
  double: "a number",
  bool: "true or false",
  timestamp: 'an RFC 3339 time in quotes such as "2026-01-01T00:00:00Z"',
  json: "a string, number, true, false or null",
} as const

function expectedFor(spec: FieldSpec): string {
  return spec.type === "enum" ? `one of ${spec.values?.join(", ")}` : EXAMPLES[spec.type]
}

function json(source: string, value: RawValue): FilterValue {
  if (value.kind === "number") return double(source, value)
  if (value.kind === "word" && (value.text === "true" || value.text === "false")) {
    return { type: "bool", value: value.text === "true" }
  }
  return { type: "string", value: value.text }
}

const INT64_MAX = 2n ** 63n - 1n

function int(source: string, value: RawValue): FilterValue {
  const number = BigInt(value.text)
  if (number > INT64_MAX || number < -INT64_MAX) {
    throw filterError(source, value.at, "the number does not fit into 64 bits", "a smaller number")
  }
  return { type: "int", value: number }
}

function double(source: string, value: RawValue): FilterValue {
  const number = Number(value.text)
  if (!Number.isFinite(number)) {
    throw filterError(source, value.at, "the number does not fit into a double", "a smaller number")
  }
  return { type: "double", value: number }
}

const RFC3339 = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})$/

function timestamp(source: string, value: RawValue): FilterValue {
  const parts = RFC3339.exec(value.text)
  const seconds =
    parts === null ? Number.NaN : Date.parse(`${parts[1]}T${parts[2]}${parts[4]?.toUpperCase()}`)
  // Date.parse takes the 31st of February for the 3rd of March; the calendar does not.
  const real = parts?.[1] !== undefined && Date.parse(`${parts[1]}T00:00:00Z`)
  const sameDay = typeof real === "number" && new Date(real || 0).toISOString().slice(0, 10) === parts?.[1]
  if (Number.isNaN(seconds) || !sameDay) {
    throw filterError(source, value.at, "this is not a time", EXAMPLES.timestamp)
  }
  // Stores keep microseconds; a finer literal is cut off to them.
  const micros = Number((parts?.[3] ?? "").padEnd(6, "0").slice(0, 6))
  const iso = `${new Date(seconds).toISOString().slice(0, -5)}.${String(micros).padStart(6, "0")}Z`
  return { type: "timestamp", ms: seconds + micros / 1000, iso }
}
