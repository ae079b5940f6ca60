/**
 * Random protobuf messages from descriptors, as a fast-check arbitrary: plausible values, boundary values and nonsense mixed,
 * so that some messages pass validation and reach a store and others fail at every depth.
 */
import { create, type DescField, type DescMessage, type Message, ScalarType } from "@bufbuild/protobuf"
import fc from "fast-check"

const AWKWARD_STRINGS = [
  "",
  " ",
  "a",
  "default",
  "Ünïcödé-\u{1F600}",
  "' or 1=1; --",
  '"quoted"',
  "a\u0000b",
  "\u202Ereversed",
  "*",
  "%",
  "../../etc/passwd",
  "{tag}",
  "-1",
  "a".repeat(300),
  "metadata.x = 1",
  "(((",
]

const strings = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...AWKWARD_STRINGS) },
  { weight: 2, arbitrary: fc.stringMatching(/^[a-z][a-z0-9-]{0,12}$/) },
  { weight: 1, arbitrary: fc.string({ unit: "grapheme", maxLength: 40 }) },
)

const int32s = fc.oneof(
  fc.constantFrom(0, 1, -1, 2, 10, 100, 1000, 2147483647, -2147483648),
  fc.integer({ min: -5, max: 50 }),
)

const int64s = fc.oneof(
  fc.constantFrom(0n, 1n, -1n, 9223372036854775807n, -9223372036854775808n),
  fc.bigInt({ min: -10n, max: 100n }),
)

const uint64s = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 18446744073709551615n, 9223372036854775808n),
  fc.bigInt({ min: 0n, max: 20n }),
)

const doubles = fc.oneof(
  fc.constantFrom(0, 1, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_VALUE),
  fc.double(),
)

const bytes = fc.oneof(fc.constant(new Uint8Array()), fc.uint8Array({ maxLength: 64 }))

const jsonObjects = fc.dictionary(
  fc.constantFrom("a", "lang", "x.y", "", "__proto__", "a\u0000b"),
  fc.jsonValue({ maxDepth: 3 }),
  { maxKeys: 4 },
)

function scalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return strings
    case ScalarType.BYTES:
      return bytes
    case ScalarType.BOOL:
      return fc.boolean()
    case ScalarType.DOUBLE:
      return doubles
    case ScalarType.FLOAT:
      return doubles.map(Math.fround)
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return int64s
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return uint64s
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return fc.constantFrom(0, 1, 2, 50, 4294967295)
    default:
      return int32s
  }
}

function wellKnown(descriptor: DescMessage): fc.Arbitrary<unknown> | undefined {
  switch (descriptor.typeName) {
    case "google.protobuf.Struct":
      return jsonObjects
    case "google.protobuf.Duration":
      // Short ones mostly: long waits are legal and would only slow the test down.
      return fc
        .record({
          seconds: fc.constantFrom(0n, 0n, 1n, -1n, 3600n, 400000000000n),
          nanos: fc.constantFrom(0, 1000000, -5, 2000000000),
        })
        .map((value) => create(descriptor, value as never))
    case "google.protobuf.Timestamp":
      return fc
        .record({
          seconds: fc.constantFrom(0n, 1n, -1n, 1790000000n, 4102444800n, 253402300799n, 999999999999999n),
          nanos: fc.constantFrom(0, 5, -1, 1999999999),
        })
        .map((value) => create(descriptor, value as never))
    default:
      return undefined
  }
}

function one(field: DescField, depth: number): fc.Arbitrary<unknown> {
  if (field.message) return messages(field.message, depth - 1)
  if (field.enum) {
    const numbers = field.enum.values.map((value) => value.number)
    return fc.constantFrom(...numbers, ...numbers, 9999, -1)
  }
  return scalar(field.scalar ?? ScalarType.STRING)
}

function fieldValue(field: DescField, depth: number): fc.Arbitrary<unknown> {
  switch (field.fieldKind) {
    case "list": {
      const item = field.message
        ? messages(field.message, depth - 1)
        : field.enum
          ? fc.constantFrom(...field.enum.values.map((value) => value.number), 9999)
          : scalar(field.scalar)
      return fc.array(item, { maxLength: 4 })
    }
    case "map": {
      const item = field.message
        ? messages(field.message, depth - 1)
        : field.enum
          ? fc.constantFrom(...field.enum.values.map((value) => value.number))
          : scalar(field.scalar)
      return fc.dictionary(strings, item, { maxKeys: 3 })
    }
    default:
      return one(field, depth)
  }
}

/**
 * An arbitrary for messages of a type.
 * @param depth how many levels of messages below this one are filled.
 */
export function messages(descriptor: DescMessage, depth = 4): fc.Arbitrary<unknown> {
  const known = wellKnown(descriptor)
  if (known) return known
  if (depth <= 0) return fc.constant(create(descriptor))
  const plain = descriptor.fields.filter((field) => field.oneof === undefined)
  const model: Record<string, fc.Arbitrary<unknown>> = {}
  for (const field of plain) {
    model[field.localName] = fc.oneof(
      { weight: 3, arbitrary: fieldValue(field, depth) },
      { weight: 1, arbitrary: fc.constant(undefined) },
    )
  }
  for (const oneof of descriptor.oneofs) {
    const cases = oneof.fields.map((field) =>
      fieldValue(field, depth).map((value) => ({ case: field.localName, value })),
    )
    model[oneof.localName] = fc.oneof(fc.constant({ case: undefined }), ...cases)
  }
  return fc.record(model).map((values) => {
    const present = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
    return create(descriptor, present as never) as Message
  })
}
