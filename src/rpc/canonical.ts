/**
 * One byte string per meaning of a message. Protobuf leaves the order of map entries open and some clients shuffle it on
 * every encoding, so a repeated request need not repeat its bytes.
 */
import type { DescField, DescMessage } from "@bufbuild/protobuf"
import { compileEncoder, type Encode } from "./codec/encode.ts"

type Fields = Readonly<Record<string, unknown>>

/**
 * Encodes messages of `desc` with map and Struct keys sorted and without the string field `omit` (local name). Stores keep digests of
 * these bytes for a day, so they must stay what they are: those that protobuf-es writes.
 */
export function canonicalBytes(desc: DescMessage, omit: string): (message: Fields) => Uint8Array {
  const sort = sorter(desc, new Map())
  let encode: Encode | undefined
  return (message) => {
    encode ??= compileEncoder(desc)
    return encode({ ...(sort === undefined ? message : sort(message)), [omit]: "" })
  }
}

type Sort = (message: Fields) => Fields

/** Undefined where no map can occur at any depth. `known` breaks recursion; a recursive type counts as having maps. */
function sorter(desc: DescMessage, known: Map<string, Sort | undefined>): Sort | undefined {
  if (known.has(desc.typeName)) return known.get(desc.typeName)
  let late: Sort | undefined
  known.set(desc.typeName, (message) => (late === undefined ? message : late(message)))
  const parts = desc.fields.flatMap((field) => {
    const sort = fieldSorter(field, known)
    return sort === undefined ? [] : [{ field, sort }]
  })
  if (parts.length > 0) {
    late = (message) => {
      const copy: Record<string, unknown> = { ...message }
      for (const { field, sort } of parts) sortField(copy, field, sort)
      return copy
    }
  }
  known.set(desc.typeName, late)
  return late
}

function sortField(copy: Record<string, unknown>, field: DescField, sort: (value: unknown) => unknown): void {
  if (field.oneof === undefined) {
    const value = copy[field.localName]
    if (value !== undefined) copy[field.localName] = sort(value)
    return
  }
  const chosen = copy[field.oneof.localName] as { case?: string; value?: unknown } | undefined
  if (chosen?.case === field.localName && chosen.value !== undefined) {
    copy[field.oneof.localName] = { case: chosen.case, value: sort(chosen.value) }
  }
}

function fieldSorter(
  field: DescField,
  known: Map<string, Sort | undefined>,
): ((value: unknown) => unknown) | undefined {
  if (field.fieldKind === "map") {
    const inner = field.message === undefined ? undefined : valueSorter(field.message, known)
    return (value) => sortKeys(value as Fields, inner ?? ((each) => each))
  }
  if (field.message === undefined) return undefined
  const inner = valueSorter(field.message, known)
  if (inner === undefined) return undefined
  return field.fieldKind === "list" ? (value) => (value as unknown[]).map(inner) : inner
}

function valueSorter(
  desc: DescMessage,
  known: Map<string, Sort | undefined>,
): ((value: unknown) => unknown) | undefined {
  // Struct fields hold plain JSON, which has no schema to walk.
  if (desc.typeName === "google.protobuf.Struct") return sortJson
  const sort = sorter(desc, known)
  return sort === undefined ? undefined : (value) => sort(value as Fields)
}

function sortKeys(value: Fields, inner: (value: unknown) => unknown): Fields {
  const sorted: Record<string, unknown> = {}
  for (const key of Object.keys(value).sort()) define(sorted, key, inner(value[key]))
  return sorted
}

function sortJson(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortJson)
  return typeof value === "object" && value !== null ? sortKeys(value as Fields, sortJson) : value
}

/** Plain assignment would lose the key `__proto__`. */
function define(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true })
}
