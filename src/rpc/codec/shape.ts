/** Which messages the compiled codec takes; all others are left to protobuf-es. */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf"
import { Edition, FeatureSet_FieldPresence, isWrapperDesc } from "@bufbuild/protobuf/wkt"

const SCALARS: ReadonlySet<ScalarType> = new Set([
  ScalarType.STRING,
  ScalarType.BYTES,
  ScalarType.BOOL,
  ScalarType.DOUBLE,
  ScalarType.FLOAT,
  ScalarType.INT32,
  ScalarType.UINT32,
  ScalarType.INT64,
  ScalarType.UINT64,
])

/** Whether the type and every type it can contain is made of what the codec knows. */
export function isKnownShape(desc: DescMessage, seen = new Set<string>()): boolean {
  if (seen.has(desc.typeName)) return true
  seen.add(desc.typeName)
  return (
    desc.file.edition === Edition.EDITION_PROTO3 &&
    desc.proto.options?.messageSetWireFormat !== true &&
    desc.fields.every(
      (each) => isKnownField(each) && (each.message === undefined || isKnownShape(each.message, seen)),
    )
  )
}

function isKnownField(field: DescField): boolean {
  if (!field.utf8Validation || (field.enum !== undefined && !field.enum.open)) return false
  if (
    field.scalar !== undefined &&
    (!SCALARS.has(field.scalar) || ("longAsString" in field && field.longAsString))
  )
    return false
  if (field.message !== undefined && isWrapperDesc(field.message)) return false
  if (field.fieldKind === "map") return field.mapKey === ScalarType.STRING
  return !("delimitedEncoding" in field && field.delimitedEncoding)
}

/** Whether a field holds plain JSON: Structs do, except inside of a Value. */
export function holdsJson(field: DescField): boolean {
  return (
    field.message?.typeName === "google.protobuf.Struct" && field.parent.typeName !== "google.protobuf.Value"
  )
}

/** Whether a scalar or enum field outside of a oneof counts as absent while it has its zero value. */
export function isImplicit(field: DescField): boolean {
  return field.presence === FeatureSet_FieldPresence.IMPLICIT
}

/** The fields of a message in the order in which they are written. */
export function fieldsByNumber(desc: DescMessage): DescField[] {
  return [...desc.fields].sort((a, b) => a.number - b.number)
}

/** The wire type of one value of a field. */
export function wireType(field: DescField): number {
  if (field.message !== undefined) return 2
  if (field.enum !== undefined) return 0
  switch (field.scalar) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return 2
    case ScalarType.DOUBLE:
      return 1
    case ScalarType.FLOAT:
      return 5
    default:
      return 0
  }
}

/** The condition under which a value of a scalar or enum field is not its zero. */
export function nonZero(field: DescField, v = "v"): string {
  if (field.fieldKind === "enum") return `${v} !== ${field.enum.values[0]?.number ?? 0}`
  switch (field.scalar) {
    case ScalarType.STRING:
      return `${v} !== ""`
    case ScalarType.BOOL:
      return `${v} !== false`
    case ScalarType.BYTES:
      return `${v}.length !== 0`
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return `${v} !== 0n`
    case ScalarType.FLOAT:
    case ScalarType.DOUBLE:
      return `!Object.is(${v}, 0)`
    default:
      return `${v} !== 0`
  }
}
