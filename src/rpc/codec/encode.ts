/** Encoders compiled from descriptors: from what a handler answers to bytes, without a message in between. */
import {
  create,
  type DescField,
  type DescMessage,
  type DescOneof,
  type Message,
  type MessageInitShape,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf"
import { fieldsByNumber, holdsJson, isImplicit, isKnownShape, nonZero, wireType } from "./shape.ts"
import { property, Source, UNUSUAL } from "./source.ts"
import { Writer } from "./writer.ts"

/** Encodes a message, or what `create` makes one of. The bytes begin after `room` bytes that the caller may fill. */
export type Encode = (value: object, room?: number) => Uint8Array

type Write = (writer: Writer, value: object) => void

const writer = new Writer()

/** The encoder of a type. Its bytes are those of protobuf-es, which writes (`slowly`) whatever the compiled code does not know. */
export function compileEncoder(desc: DescMessage, slowly: Encode = slowEncoder(desc)): Encode {
  const write = compileWrite(desc)
  if (write === undefined) return slowly
  let last = 0
  let expected = 0
  return (value, room = 0) => {
    try {
      writer.begin(expected)
      write(writer, value)
    } catch {
      // Whatever it was: protobuf-es writes it, or says what is wrong with it.
      writer.reset()
      return slowly(value, room)
    }
    // Two large answers in a row let expect a third.
    expected = Math.min(last, writer.written)
    last = writer.written
    return writer.finish(room)
  }
}

function compileWrite(desc: DescMessage): Write | undefined {
  if (!isKnownShape(desc)) return undefined
  const source = new Source()
  return source.compile(messageFunction(source, desc)) as Write | undefined
}

function slowEncoder(desc: DescMessage): Encode {
  return (value, room = 0) => {
    const bytes = toBinary(desc, toMessage(desc, value))
    if (room === 0) return bytes
    const framed = new Uint8Array(room + bytes.byteLength)
    framed.set(bytes, room)
    return framed
  }
}

/** Handlers may answer with a message or with what {@link create} makes one of. */
export function toMessage(desc: DescMessage, response: object): Message {
  if ((response as { $typeName?: unknown }).$typeName === desc.typeName) return response as Message
  return create(desc, response as MessageInitShape<DescMessage>)
}

/** The function that writes a message's body: the last field first, as the writer goes backwards. */
function messageFunction(source: Source, desc: DescMessage): string {
  return source.function(desc.typeName, () => {
    const unusual = source.value(UNUSUAL)
    const parts = grouped(desc).reverse()
    const own = JSON.stringify(desc.typeName)
    return [
      "w, m",
      [
        `if (typeof m !== "object" || m === null || Array.isArray(m)) throw ${unusual}`,
        `if (m.$typeName !== undefined && m.$typeName !== ${own} || m.$unknown !== undefined) throw ${unusual}`,
        "let v",
        ...parts.map((each) => (Array.isArray(each) ? oneofPart(source, each) : fieldPart(source, each))),
      ].join("\n"),
    ]
  })
}

/** Fields in their order; those of a oneof together wherever no other field lies between them. */
function grouped(desc: DescMessage): (DescField | DescField[])[] {
  const groups: (DescField | DescField[])[] = []
  let oneof: DescOneof | undefined
  for (const field of fieldsByNumber(desc)) {
    const last = groups.at(-1)
    if (field.oneof !== undefined && field.oneof === oneof && Array.isArray(last)) last.push(field)
    else groups.push(field.oneof === undefined ? field : [field])
    oneof = field.oneof
  }
  return groups
}

function oneofPart(source: Source, fields: readonly DescField[]): string {
  const name = fields[0]?.oneof?.localName ?? ""
  const cases = fields.map((field) => {
    const write = singular(source, field, "v.value")
    return `case ${JSON.stringify(field.localName)}: ${write}; ${tag(field)}; break`
  })
  return `v = m${property(name)}\nif (v !== undefined && v !== null) switch (v.case) {\n${cases.join("\n")}\n}`
}

function fieldPart(source: Source, field: DescField): string {
  const load = `v = m${property(field.localName)}`
  switch (field.fieldKind) {
    case "list":
      return `${load}\nif (v !== undefined && v !== null) {\n${listBody(source, field)}\n}`
    case "map":
      return `${load}\nif (v !== undefined && v !== null) {\n${mapBody(source, field)}\n}`
    default: {
      const present = isImplicit(field) ? nonZero(field) : "true"
      return `${load}\nif (v !== undefined && v !== null && ${present}) { ${singular(source, field, "v")}; ${tag(field)} }`
    }
  }
}

function listBody(source: Source, field: DescField & { fieldKind: "list" }): string {
  const loop = "for (let i = v.length - 1; i >= 0; i--)"
  const write = singular(source, field, "v[i]")
  if (!field.packed) return `${loop} { ${write}; ${tag(field)} }`
  return `if (v.length > 0) { const list = w.written; ${loop} ${write}; w.close(list); ${tag(field)} }`
}

function mapBody(source: Source, field: DescField & { fieldKind: "map" }): string {
  const value = singular(source, field, "v[key]")
  return [
    "const keys = Object.keys(v)",
    "for (let i = keys.length - 1; i >= 0; i--) {",
    "const key = keys[i], entry = w.written",
    `${value}; w.tag(${(2 << 3) | wireType(field)}); w.string(key); w.tag(10); w.close(entry); ${tag(field)}`,
    "}",
  ].join("\n")
}

/** Writes one value, with its length and without its tag. */
function singular(source: Source, field: DescField, value: string): string {
  if (field.message !== undefined) {
    const body = holdsJson(field)
      ? `w.struct(${value})`
      : `${messageFunction(source, field.message)}(w, ${value})`
    return `{ const mark = w.written; ${body}; w.close(mark) }`
  }
  return `w.${writerMethod(field)}(${value})`
}

function writerMethod(field: DescField): keyof Writer {
  if (field.enum !== undefined) return "int32"
  switch (field.scalar) {
    case ScalarType.STRING:
      return "string"
    case ScalarType.BYTES:
      return "bytes"
    case ScalarType.BOOL:
      return "bool"
    case ScalarType.DOUBLE:
      return "double"
    case ScalarType.FLOAT:
      return "float"
    case ScalarType.INT64:
      return "int64"
    case ScalarType.UINT64:
      return "uint64"
    case ScalarType.UINT32:
      return "uint32"
    default:
      return "int32"
  }
}

function tag(field: DescField): string {
  const delimited = field.fieldKind === "map" || (field.fieldKind === "list" && field.packed)
  const number = ((field.number << 3) | (delimited ? 2 : wireType(field))) >>> 0
  return number < 0x80 ? `w.tag(${number})` : `w.longTag(${number})`
}
