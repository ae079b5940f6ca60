/** The grammar of AIP-160: tokens to an untyped tree that remembers where everything stood. */
import { type CompareOp, MAX_FILTER_DEPTH, MAX_FILTER_TERMS } from "./filter.ts"
import { filterError, type Token, tokenize } from "./lexer.ts"

/** The right-hand side as it was written; `word` is unquoted text. */
export interface RawValue {
  readonly kind: "string" | "number" | "word" | "star"
  readonly text: string
  readonly at: number
}

/** One comparison as it was written. */
export interface RawRestriction {
  readonly kind: "restriction"
  /** The field and the segments below it. */
  readonly path: readonly string[]
  readonly at: number
  readonly op: CompareOp | ":"
  readonly value: RawValue
}

/** The untyped tree. */
export type Syntax =
  | { readonly kind: "and" | "or"; readonly terms: readonly Syntax[] }
  | { readonly kind: "not"; readonly term: Syntax }
  | RawRestriction

/** Parses `source`; undefined for blank text, which means no filter. Throws INVALID_FILTER. */
export function parseSyntax(source: string): Syntax | undefined {
  const parser = new Parser(source)
  return parser.atEnd() ? undefined : parser.whole()
}

const COMPARATORS: ReadonlySet<string> = new Set(["=", "!=", "<", "<=", ">", ">=", ":"])

class Parser {
  readonly #source: string
  readonly #tokens: readonly Token[]
  #index = 0
  #depth = 0
  #terms = 0

  constructor(source: string) {
    this.#source = source
    this.#tokens = tokenize(source)
  }

  atEnd(): boolean {
    return this.#peek().kind === "end"
  }

  whole(): Syntax {
    const tree = this.#expression()
    if (!this.atEnd()) this.#fail("this does not belong here", "AND, OR or the end")
    return tree
  }

  #peek(): Token {
    const token = this.#tokens[this.#index]
    if (token === undefined) throw filterError(this.#source, this.#source.length, "the filter ends too early")
    return token
  }

  #take(): Token {
    const token = this.#peek()
    this.#index++
    return token
  }

  #isSymbol(text: string): boolean {
    const token = this.#peek()
    return token.kind === "symbol" && token.text === text
  }

  #isWord(word: string): boolean {
    const token = this.#peek()
    return token.kind === "text" && token.text === word
  }

  #fail(message: string, expected: string): never {
    throw filterError(this.#source, this.#peek().at, message, expected)
  }

  // Juxtaposition means AND and binds as AIP-160 says: `a b OR c` is `a AND (b OR c)`.
  #expression(): Syntax {
    const terms = [this.#factor()]
    for (;;) {
      if (this.#isWord("AND")) this.#take()
      else if (this.atEnd() || this.#isSymbol(")")) break
      terms.push(this.#factor())
    }
    return joined("and", terms)
  }

  // OR binds tighter than AND.
  #factor(): Syntax {
    const terms = [this.#term()]
    while (this.#isWord("OR")) {
      this.#take()
      terms.push(this.#term())
    }
    return joined("or", terms)
  }

  #term(): Syntax {
    if (this.#isWord("NOT") || this.#isSymbol("-")) {
      this.#take()
      return { kind: "not", term: this.#simple() }
    }
    return this.#simple()
  }

  #simple(): Syntax {
    if (!this.#isSymbol("(")) return this.#restriction()
    if (++this.#depth > MAX_FILTER_DEPTH) {
      this.#fail(`nested deeper than ${MAX_FILTER_DEPTH}`, "fewer parentheses")
    }
    this.#take()
    const inner = this.#expression()
    if (!this.#isSymbol(")")) this.#fail("a parenthesis is not closed", ")")
    this.#take()
    this.#depth--
    return inner
  }

  #restriction(): RawRestriction {
    const at = this.#peek().at
    if (++this.#terms > MAX_FILTER_TERMS) {
      this.#fail(`more than ${MAX_FILTER_TERMS} comparisons`, "a smaller filter")
    }
    const path = this.#path()
    const token = this.#peek()
    if (token.kind !== "symbol" || !COMPARATORS.has(token.text)) {
      this.#fail("a field must be compared with something", "= != < <= > >= or :")
    }
    this.#take()
    return { kind: "restriction", path, at, op: token.text as RawRestriction["op"], value: this.#value() }
  }

  #path(): string[] {
    const first = this.#peek()
    if (first.kind !== "text" || isKeyword(first.text))
      this.#fail("a comparison begins with a field", "a field")
    this.#take()
    const path = [first.text]
    while (this.#isSymbol(".")) {
      this.#take()
      const segment = this.#peek()
      if (segment.kind !== "text" && segment.kind !== "string") this.#fail("a dot leads nowhere", "a name")
      this.#take()
      path.push(segment.text)
    }
    return path
  }

  #value(): RawValue {
    const token = this.#take()
    if (token.kind === "string") return { kind: "string", text: token.text, at: token.at }
    if (token.kind === "number") return { kind: "number", text: token.text, at: token.at }
    if (token.kind === "symbol" && token.text === "-") {
      const number = this.#peek()
      if (number.kind === "number" && number.at === token.end) {
        this.#take()
        return { kind: "number", text: `-${number.text}`, at: token.at }
      }
    }
    if (token.kind === "text" && token.text === "*") return { kind: "star", text: "*", at: token.at }
    if (token.kind === "text" && !isKeyword(token.text)) return this.#word(token)
    throw filterError(this.#source, token.at, "a value is missing", "a string, number, true, false or null")
  }

  // Unquoted text may hold dots, as in `name = report.pdf`.
  #word(first: Token): RawValue {
    let { text, end } = first
    while (this.#isSymbol(".") && this.#peek().at === end) {
      const dot = this.#take()
      const more = this.#peek()
      if (more.kind !== "text" || more.at !== dot.end) this.#fail("put text with dots in quotes", "a string")
      this.#take()
      text += `.${more.text}`
      end = more.end
    }
    return { kind: "word", text, at: first.at }
  }
}

function isKeyword(text: string): boolean {
  return text === "AND" || text === "OR" || text === "NOT"
}

function joined(kind: "and" | "or", terms: readonly Syntax[]): Syntax {
  const [only, ...others] = terms
  return only !== undefined && others.length === 0 ? only : { kind, terms }
}
