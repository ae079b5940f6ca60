/** Values as the server keeps them: a letter for the form, the length of the media type, `:`, media type and content. */
import type { CacheValue, Content } from "../../domain/cache/model.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"

const FORMS = { data: "d", text: "t", json: "j", integer: "i", number: "n" } as const
const [COLON, ZERO, DATA, TEXT, JSON_TEXT] = [0x3a, 0x30, 0x64, 0x74, 0x6a]

/** The words of the domain for the letters of the forms. */
export const FORM_NAMES: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(FORMS).map(([name, letter]) => [letter, name]),
)

/** The stored form of a value. */
export function encodeValue({ content, contentType }: CacheValue): Buffer | string {
  const head = `${FORMS[content.case]}${Buffer.byteLength(contentType)}:${contentType}`
  switch (content.case) {
    case "data":
      return headed(head, content.value)
    case "json":
      return head + JSON.stringify(content.value)
    default:
      return head + String(content.value)
  }
}

function headed(head: string, bytes: Uint8Array): Buffer {
  const size = Buffer.byteLength(head)
  const whole = Buffer.allocUnsafe(size + bytes.length)
  whole.write(head)
  whole.set(bytes, size)
  return whole
}

/** The value of a stored form, in memory of its own. */
export function decodeValue(stored: Buffer): CacheValue {
  const value = viewValue(stored)
  const { content, contentType } = value
  if (content.case !== "data") return value
  return { content: { case: "data", value: content.value.slice() }, contentType }
}

/** As {@link decodeValue}, in the memory that came from the server, of which it may be a small part: for what is used at once. */
export function viewValue(stored: Buffer): CacheValue {
  let typeBytes = 0
  let at = 1
  while (at < stored.length && stored[at] !== COLON)
    typeBytes = typeBytes * 10 + (stored[at++] as number) - ZERO
  const from = at + 1 + typeBytes
  const contentType = typeBytes === 0 ? "" : stored.toString("utf8", at + 1, from)
  return { content: contentOf(stored, from), contentType }
}

function contentOf(stored: Buffer, from: number): Content {
  switch (stored[0]) {
    case DATA:
      return {
        case: "data",
        value: new Uint8Array(stored.buffer, stored.byteOffset + from, stored.length - from),
      }
    case TEXT:
      return { case: "text", value: stored.toString("utf8", from) }
    case JSON_TEXT:
      return { case: "json", value: JSON.parse(stored.toString("utf8", from)) as JsonValue }
    default:
      return numeric(stored.toString("latin1", 0, 1), stored.toString("latin1", from))
  }
}

/** A sum or stored number by its form. */
export function numeric(
  form: string,
  digits: string,
): { case: "integer"; value: bigint } | { case: "number"; value: number } {
  return form === "i" ? { case: "integer", value: BigInt(digits) } : { case: "number", value: Number(digits) }
}
