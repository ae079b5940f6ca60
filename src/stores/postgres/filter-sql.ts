/** Compiles a filter into a SQL condition with parameters only; no part of the filter becomes text of the statement. */
import type { CompareOp, FieldRef, Filter, FilterValue } from "../../domain/kernel/filter/index.ts"

/** Where a field of the filter's table lives. */
export interface FilterColumn {
  /** The SQL expression, a constant of the adapter: text, bigint, double precision, boolean, timestamptz or jsonb. */
  readonly sql: string
  /** For enum fields: what the column holds for a name. The name itself by default. */
  readonly encode?: (name: string) => unknown
}

/** The columns of every field in the filter's table. */
export type FilterColumns = Readonly<Record<string, FilterColumn>>

/**
 * The condition for a `where` clause. Values are appended to `params` and referred to as `$n`, so that the condition may be
 * placed beside others which used the same array.
 */
export function filterSql(filter: Filter, columns: FilterColumns, params: unknown[]): string {
  return compile(filter, { columns, params }, false)
}

interface Target {
  readonly columns: FilterColumns
  readonly params: unknown[]
}

// A `where` treats NULL as false, and so do AND and OR above it; only under NOT it must become false first. Leaving
// the coalesce out elsewhere keeps conditions usable by indexes.
function compile(filter: Filter, target: Target, negated: boolean): string {
  switch (filter.kind) {
    case "and":
    case "or":
      return `(${filter.terms.map((term) => compile(term, target, negated)).join(` ${filter.kind} `)})`
    case "not":
      return `(not ${compile(filter.term, target, true)})`
    default: {
      const condition = leaf(filter, target)
      return negated ? `coalesce(${condition}, false)` : condition
    }
  }
}

type Leaf = Extract<Filter, { kind: "compare" | "has" | "present" }>

function leaf(filter: Leaf, target: Target): string {
  const column = columnOf(filter.ref, target)
  if (filter.ref.type === "json") return jsonLeaf(filter, column, target)
  if (filter.kind === "present") return `(${column.sql} is not null)`
  if (filter.kind === "has") {
    return `(strpos(${column.sql}, ${param(target, scalar(filter.value, column))}::text) > 0)`
  }
  return compareColumn(column, filter.op, filter.value, target)
}

function columnOf(ref: FieldRef, target: Target): FilterColumn {
  const column = Object.hasOwn(target.columns, ref.field) ? target.columns[ref.field] : undefined
  if (column === undefined) throw new Error(`the filter field ${ref.field} has no column`)
  return column
}

function param(target: Target, value: unknown): string {
  return `$${target.params.push(value)}`
}

function scalar(value: FilterValue, column: FilterColumn): unknown {
  switch (value.type) {
    case "timestamp":
      return value.iso
    case "int":
      return value.value.toString()
    case "enum":
      return column.encode === undefined ? value.value : column.encode(value.value)
    default:
      return value.value
  }
}

const CASTS = {
  string: "::text",
  int: "::bigint",
  double: "::double precision",
  bool: "::boolean",
  timestamp: "::timestamptz",
  // Left to the column: enums are stored as text or as a number.
  enum: "",
} as const

function sqlOp(op: CompareOp): string {
  return op === "!=" ? "<>" : op
}

function isOrder(op: CompareOp): boolean {
  return op !== "=" && op !== "!="
}

function compareColumn(column: FilterColumn, op: CompareOp, value: FilterValue, target: Target): string {
  const right = `${param(target, scalar(value, column))}${CASTS[value.type]}`
  const bytewise = value.type === "string" && isOrder(op) ? ' collate "C"' : ""
  return `(${column.sql}${bytewise} ${sqlOp(op)} ${right})`
}

function jsonLeaf(filter: Leaf, column: FilterColumn, target: Target): string {
  const { path } = filter.ref
  // `->` with text looks into objects only; `#>` would take "0" for an array index.
  const at = (): string =>
    path.length === 0
      ? column.sql
      : `(${column.sql}${path.map((segment) => ` -> ${param(target, segment)}::text`).join("")})`
  if (filter.kind === "present") return `(${at()} <> 'null'::jsonb)`
  if (filter.value.type === "timestamp") throw new Error("a json field is never compared as a timestamp")
  const literal = filter.value.value as string | number | boolean
  if (filter.kind === "has") return jsonHas(at(), literal, target)
  if (filter.op === "=" && path.length > 0) {
    // Containment says the same as equality at a path, and a GIN index can answer it.
    const document = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), literal)
    return `(${column.sql} @> ${param(target, JSON.stringify(document))}::jsonb)`
  }
  return jsonCompare(at(), filter.op, literal, target)
}

function jsonCompare(
  left: string,
  op: CompareOp,
  literal: string | number | boolean,
  target: Target,
): string {
  const json = (): string => `${param(target, JSON.stringify(literal))}::jsonb`
  if (op === "!=") return `(${left} <> 'null'::jsonb and ${left} <> ${json()})`
  if (op === "=") return `(${left} = ${json()})`
  if (typeof literal === "string") {
    const text = `${param(target, literal)}::text`
    return `(jsonb_typeof(${left}) = 'string' and (${left} #>> '{}') collate "C" ${op} ${text})`
  }
  return `(jsonb_typeof(${left}) = 'number' and ${left} ${op} ${json()})`
}

function jsonHas(left: string, literal: string | number | boolean, target: Target): string {
  const json = `${param(target, JSON.stringify(literal))}::jsonb`
  if (typeof literal !== "string") {
    return `(case jsonb_typeof(${left}) when 'array' then ${left} @> ${json} else ${left} = ${json} end)`
  }
  const text = `${param(target, literal)}::text`
  return (
    `(case jsonb_typeof(${left}) when 'array' then ${left} @> ${json} ` +
    `when 'object' then ${left} ? ${text} when 'string' then strpos(${left} #>> '{}', ${text}) > 0 else false end)`
  )
}
