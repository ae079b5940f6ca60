/** Decoders compiled from descriptors. What they make cannot be told from what protobuf-es makes. */
import { type DescField, type DescMessage, fromBinary, type Message, ScalarType } from "@bufbuild/protobuf"
import { Reader } from "./reader.ts"
import { holdsJson, isImplicit, isKnownShape, wireType } from "./shape.ts"
import { property, Source, UNUSUAL } from "./source.ts"

/** Decodes messages of one type. */
export interface Decoder {
  /** The message without its unknown fields; throws what protobuf-es throws. */
  decode(bytes: Uint8Array): Message
  /** How deep messages nest in the one that was decoded last; infinite where nobody has counted. */
  readonly deepest: number
}

type Decode = Decoder["decode"]

type Read = (reader: Reader, end: number, depth: number) => Message

const reader = new Reader()

/**
 * The decoder of a type, whose messages nest at most `recursionLimit` levels. protobuf-es reads (`slowly`) whatever the
 * compiled code does not know.
 */
export function compileDecoder(
  desc: DescMessage,
  recursionLimit: number,
  slowly: Decode = slowDecoder(desc, recursionLimit),
): Decoder {
  const read = compileRead(desc)
  if (read === undefined) return { decode: slowly, deepest: Number.POSITIVE_INFINITY }
  let deepest = 0
  return {
    decode(bytes) {
      try {
        reader.begin(bytes, recursionLimit)
        const message = read(reader, bytes.length, 1)
        deepest = reader.deepest
        return message
      } catch {
        // Whatever it was: protobuf-es reads it, or says what is wrong with it.
        deepest = Number.POSITIVE_INFINITY
        return slowly(bytes)
      } finally {
        reader.end()
      }
    },
    get deepest() {
      return deepest
    },
  }
}

function slowDecoder(desc: DescMessage, recursionLimit: number): Decode {
  const options = { readUnknownFields: false, recursionLimit }
  return (bytes) => fromBinary(desc, bytes, options)
}

function compileRead(desc: DescMessage): Read | undefined {
  if (!isKnownShape(desc)) return undefined
  const source = new Source()
  return source.compile(messageFunction(source, desc)) as Read | undefined
}

function messageFunction(source: Source, desc: DescMessage): string {
  return source.function(desc.typeName, () => {
    const unusual = source.value(UNUSUAL)
    const numbers = desc.fields.map((each) => `tag >>> 3 === ${each.number}`)
    return [
      "r, end, depth",
      [
        "r.enter(depth)",
        `const m = ${emptyMessage(source, desc)}`,
        "while (r.pos < end) {",
        "const tag = r.tag()",
        "switch (tag) {",
        ...desc.fields.flatMap((each) => fieldCases(source, each)),
        // A field of ours in another form than its own.
        `default: if (${["false", ...numbers].join(" || ")}) throw ${unusual}`,
        "r.skip(tag, end)",
        "}",
        "}",
        `if (r.pos !== end) throw ${unusual}`,
        "return m",
      ].join("\n"),
    ]
  })
}

/** Object literal of a message without values, its properties in the order of protobuf-es. */
function emptyMessage(source: Source, desc: DescMessage): string {
  const properties = [`$typeName: ${JSON.stringify(desc.typeName)}`]
  for (const member of desc.members) {
    const name = property(member.localName).slice(1)
    if (member.kind === "oneof") properties.push(`${name}: { case: undefined }`)
    else if (member.fieldKind === "list") properties.push(`${name}: []`)
    else if (member.fieldKind === "map") properties.push(`${name}: {}`)
    else if (member.fieldKind !== "message" && isImplicit(member)) {
      properties.push(`${name}: ${zero(source, member)}`)
    }
  }
  return `{ ${properties.join(", ")} }`
}

function zero(source: Source, field: DescField): string {
  if (field.enum !== undefined) return String(field.enum.values[0]?.number ?? 0)
  switch (field.scalar) {
    case ScalarType.STRING:
      return '""'
    case ScalarType.BOOL:
      return "false"
    case ScalarType.BYTES:
      return `new ${source.value(Uint8Array)}(0)`
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return "0n"
    default:
      return "0"
  }
}

function fieldCases(source: Source, field: DescField): string[] {
  const unusual = source.value(UNUSUAL)
  const at = property(field.localName)
  switch (field.fieldKind) {
    case "list":
      return listCases(source, field)
    case "map":
      return [oneCase(field.number, 2, mapBody(source, field))]
    default: {
      const value = singular(source, field)
      if (field.oneof !== undefined) {
        const oneof = `m${property(field.oneof.localName)}`
        const name = JSON.stringify(field.localName)
        const store = `if (${oneof}.case !== undefined) throw ${unusual}; ${oneof} = { case: ${name}, value: ${value} }`
        return [oneCase(field.number, wireType(field), store)]
      }
      // A message that comes in two parts is put together by protobuf-es.
      const once = field.message === undefined ? "" : `if (m${at} !== undefined) throw ${unusual}; `
      return [oneCase(field.number, wireType(field), `${once}m${at} = ${value}`)]
    }
  }
}

function listCases(source: Source, field: DescField & { fieldKind: "list" }): string[] {
  const push = `m${property(field.localName)}.push(${singular(source, field)})`
  const wire = wireType(field)
  const single = oneCase(field.number, wire, push)
  if (wire === 2) return [single]
  const unusual = source.value(UNUSUAL)
  const packed = `const stop = r.nested(end); while (r.pos < stop) ${push}; if (r.pos !== stop) throw ${unusual}`
  return [single, oneCase(field.number, 2, packed)]
}

function mapBody(source: Source, field: DescField & { fieldKind: "map" }): string {
  const unusual = source.value(UNUSUAL)
  const valueTag = (2 << 3) | wireType(field)
  return [
    "const stop = r.nested(end)",
    `if (r.tag() !== 10) throw ${unusual}`,
    "const key = r.string(stop)",
    `if (key === "__proto__" || r.tag() !== ${valueTag}) throw ${unusual}`,
    `m${property(field.localName)}[key] = ${singular(source, field)}`,
    `if (r.pos !== stop) throw ${unusual}`,
  ].join("\n")
}

function oneCase(number: number, wire: number, body: string): string {
  return `case ${((number << 3) | wire) >>> 0}: { ${body}; break }`
}

/** Reads one value that begins here. */
function singular(source: Source, field: DescField): string {
  if (field.message !== undefined) {
    return holdsJson(field)
      ? "r.struct(r.nested(end), depth + 1)"
      : `${messageFunction(source, field.message)}(r, r.nested(end), depth + 1)`
  }
  if (field.enum !== undefined) return "r.int32()"
  switch (field.scalar) {
    case ScalarType.STRING:
      return "r.string(end)"
    case ScalarType.BYTES:
      return "r.bytes(end)"
    case ScalarType.BOOL:
      return "r.bool()"
    case ScalarType.DOUBLE:
      return "r.double(end)"
    case ScalarType.FLOAT:
      return "r.float(end)"
    case ScalarType.INT64:
      return "r.int64()"
    case ScalarType.UINT64:
      return "r.uint64()"
    case ScalarType.UINT32:
      return "r.uint32()"
    default:
      return "r.int32()"
  }
}
