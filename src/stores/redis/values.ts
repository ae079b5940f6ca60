/** Values as the server keeps them: a letter for the form, the length of the media type, `:`, media type and content. */
import type { CacheValue, Content } from "../../domain/cache/model.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"

const FORMS = { data: "d", text: "t", json: "j", integer: "i", number: "n" } as const
const COLON = 0x3a

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
  const colon = stored.indexOf(COLON)
  const from = colon + 1 + Number(stored.toString("latin1", 1, colon))
  const contentType = stored.toString("utf8", colon + 1, from)
  return { content: decodeContent(stored.toString("latin1", 0, 1), stored.subarray(from)), contentType }
}

function decodeContent(form: string, bytes: Buffer): Content {
  switch (form) {
    case "d":
      return { case: "data", value: new Uint8Array(bytes) }
    case "t":
      return { case: "text", value: bytes.toString("utf8") }
    case "j":
      return { case: "json", value: JSON.parse(bytes.toString("utf8")) as JsonValue }
    default:
      return numeric(form, bytes.toString("latin1"))
  }
}

/** A sum or stored number by its form. */
export function numeric(
  form: string,
  digits: string,
): { case: "integer"; value: bigint } | { case: "number"; value: number } {
  return form === "i" ? { case: "integer", value: BigInt(digits) } : { case: "number", value: Number(digits) }
}
