/** Values as literals of the expression language. */
import type { ServerFeatures } from "./features.ts"

/** A text without characters beyond U+FFFF, such as a key. */
export function encodeText(text: string): string {
  return `"${text.replace(/[\\"\n\r]/g, (char) => ESCAPES[char] ?? char)}"`
}

/** Any text, as the server reads it. */
export function encodeAnyText(text: string, features: Pick<ServerFeatures, "wideEscapes">): string {
  const encoded = encodeText(text)
  return features.wideEscapes ? encoded.replace(WIDE, escapeWide) : encoded
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r" }
const WIDE = /[\u{10000}-\u{10ffff}]/gu

function escapeWide(char: string): string {
  return `\\U${(char.codePointAt(0) ?? 0).toString(16).padStart(8, "0")}`
}

/** A number, always with a point or an exponent so that it is no integer, or a truth value. */
export function encodeScalar(value: number | boolean): string {
  if (typeof value === "boolean") return String(value)
  const text = Object.is(value, -0) ? "0" : String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}
