/** Turns filter text into tokens. */
import { DomainError } from "../errors.ts"
import { MAX_FILTER_BYTES } from "./filter.ts"

/** What the parser tells apart. `symbol` covers parentheses, dot, minus, comma, star and the comparators. */
export type TokenKind = "text" | "string" | "number" | "symbol" | "end"

/** One token; `at` and `end` are offsets in UTF-16 units of the source. */
export interface Token {
  readonly kind: TokenKind
  /** The decoded value of a string, else the characters themselves. */
  readonly text: string
  readonly at: number
  readonly end: number
}

/** INVALID_FILTER at an offset (UTF-16 units) of `source`; the metadata has the offset in UTF-8 bytes. */
export function filterError(source: string, at: number, message: string, expected?: string): DomainError {
  const position = String(Buffer.byteLength(source.slice(0, at)))
  const description =
    expected === undefined
      ? `${message} (at byte ${position})`
      : `${message} (at byte ${position}; expected ${expected})`
  return new DomainError("INVALID_FILTER", `filter: ${description}`, {
    metadata: { position, field: "filter", ...(expected === undefined ? {} : { expected }) },
    violations: [{ field: "filter", description }],
  })
}

const SPACE = /[ \t\r\n]*/y
const SYMBOL = /<=|>=|!=|[<>=:().,-]/y
const NUMBER = /\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![^\s<>=!:(),"'])/y
const TEXT = /[^\s<>=!:().,"'-][^\s<>=!:().,"']*/y
const ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  "/": "/",
  "\\": "\\",
  '"': '"',
  "'": "'",
}

/** All tokens of `source`, the last one of kind `end`. Throws INVALID_FILTER. */
export function tokenize(source: string): readonly Token[] {
  if (Buffer.byteLength(source) > MAX_FILTER_BYTES) {
    throw filterError(source, 0, `the filter is longer than ${MAX_FILTER_BYTES} bytes`)
  }
  const nul = source.indexOf("\0")
  if (nul >= 0) throw filterError(source, nul, "a NUL character is not allowed")
  if (!source.isWellFormed()) throw filterError(source, 0, "the filter is not well-formed Unicode")
  const tokens: Token[] = []
  let at = 0
  for (;;) {
    at += stick(SPACE, source, at).length
    if (at >= source.length) break
    const token = next(source, at, tokens.at(-1))
    tokens.push(token)
    at = token.end
  }
  tokens.push({ kind: "end", text: "", at, end: at })
  return tokens
}

function stick(pattern: RegExp, source: string, at: number): string {
  pattern.lastIndex = at
  return pattern.exec(source)?.[0] ?? ""
}

function next(source: string, at: number, previous: Token | undefined): Token {
  const first = source[at]
  if (first === '"' || first === "'") return quoted(source, at, first)
  // After a dot comes the name of a path segment, which may begin with a digit.
  if (previous?.text !== "." || previous.kind !== "symbol") {
    const number = stick(NUMBER, source, at)
    if (number !== "") return { kind: "number", text: number, at, end: at + number.length }
  }
  const symbol = stick(SYMBOL, source, at)
  if (symbol !== "") return { kind: "symbol", text: symbol, at, end: at + symbol.length }
  const text = stick(TEXT, source, at)
  if (text !== "") return { kind: "text", text, at, end: at + text.length }
  throw filterError(source, at, "this character does not begin anything", "a field, a value or an operator")
}

function quoted(source: string, at: number, quote: string): Token {
  let text = ""
  let i = at + 1
  for (; i < source.length && source[i] !== quote; i++) {
    if (source[i] !== "\\") {
      text += source[i]
      continue
    }
    i++
    const code = source[i]
    if (code === "u") {
      const hex = source.slice(i + 1, i + 5)
      if (!/^[0-9a-fA-F]{4}$/.test(hex)) throw filterError(source, i - 1, "bad escape", "\\uXXXX")
      text += String.fromCharCode(Number.parseInt(hex, 16))
      i += 4
      continue
    }
    const plain = code === undefined ? undefined : ESCAPES[code]
    if (plain === undefined) {
      throw filterError(
        source,
        i - 1,
        "unknown escape",
        `one of \\" \\' \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX`,
      )
    }
    text += plain
  }
  if (i >= source.length) throw filterError(source, at, "the string has no end", quote)
  if (text.includes("\0") || !text.isWellFormed()) {
    throw filterError(source, at, "a string may not contain NUL or half a surrogate pair")
  }
  return { kind: "string", text, at, end: i + 1 }
}
