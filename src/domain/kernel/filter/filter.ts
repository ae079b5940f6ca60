/**
 * The filter language (AIP-160) as a typed tree. {@link parseFilter} makes it from text; engines compile it (SQL: see the
 * postgres adapter) or evaluate it with {@link matchesFilter}. All of them share this one meaning:
 *
 * - Logic has two values. A comparison is either true or false, and `NOT` turns it round.
 * - A field has no value when it is missing or null. `= null` is true exactly then, `field:*` and `!= null` exactly
 *   otherwise; every other comparison with such a field is false, `!=` included.
 * - A json field is compared in the type of the literal: `metadata.n > 3` is false for a string. `!=` is true for a value
 *   of another type. `<` and its like take numbers and strings; strings are ordered by their UTF-8 bytes.
 * - `field:x` means contains: a string contains the substring, an array has an equal element, an object has the key; any
 *   other value equals x.
 * - Paths walk through objects only; there is no array index.
 */

/** What a field may be compared with. `json` has a path below it and takes the type of the literal. */
export type FieldType = "string" | "int" | "double" | "bool" | "timestamp" | "enum" | "json"

/** One field of a {@link FieldTable}. */
export interface FieldSpec {
  readonly type: FieldType
  /** The names an enum field may be compared with. */
  readonly values?: readonly string[]
}

/** The fields a filter may name; everything else is INVALID_FILTER. */
export type FieldTable = Readonly<Record<string, FieldSpec>>

/** A comparison's right-hand side, already of the field's type. */
export type FilterValue =
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "int"; readonly value: bigint }
  | { readonly type: "double"; readonly value: number }
  | { readonly type: "bool"; readonly value: boolean }
  /** `ms` since the epoch, with microseconds as its fraction; `iso` is the same instant in UTC. */
  | { readonly type: "timestamp"; readonly ms: number; readonly iso: string }
  | { readonly type: "enum"; readonly value: string }

/** The comparators other than `:`. */
export type CompareOp = "=" | "!=" | "<" | "<=" | ">" | ">="

/** What a leaf of the tree looks at: a field of the table, and below a json field the path to the value. */
export interface FieldRef {
  readonly field: string
  readonly type: FieldType
  readonly path: readonly string[]
}

/** A parsed and type-checked filter. */
export type Filter =
  | { readonly kind: "and" | "or"; readonly terms: readonly Filter[] }
  | { readonly kind: "not"; readonly term: Filter }
  /** `value` of a json field is a string, double or bool. */
  | { readonly kind: "compare"; readonly ref: FieldRef; readonly op: CompareOp; readonly value: FilterValue }
  /** Contains; only for string and json fields (on all others `:` is parsed as `=`). */
  | { readonly kind: "has"; readonly ref: FieldRef; readonly value: FilterValue }
  /** True where the field has a value. */
  | { readonly kind: "present"; readonly ref: FieldRef }

/** Longest filter text in UTF-8 bytes. */
export const MAX_FILTER_BYTES = 4096
/** Deepest nesting of parentheses. */
export const MAX_FILTER_DEPTH = 64
/** Most comparisons in one filter. */
export const MAX_FILTER_TERMS = 200
