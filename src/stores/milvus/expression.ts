/**
 * Filters as expressions of the server. An expression may let more through than its filter does, never less; where it lets through
 * exactly the same it is marked so, and otherwise the daemon looks again at what comes back.
 *
 * Values go beside the expression where the server has templates, else through {@link encodeAnyText}, the only place that puts a
 * caller's text into one. Fields come from the adapter's own list, paths only where they are plain words.
 */
import type { CompareOp, Filter, FilterValue } from "../../domain/kernel/filter/index.ts"
import type { ServerFeatures } from "./features.ts"
import { encodeAnyText, encodeScalar, encodeText } from "./literal.ts"
import { encodeKey, NEVER_MS } from "./rows.ts"

export { encodeAnyText, encodeScalar, encodeText } from "./literal.ts"

/** An expression and the values that travel beside it. */
export interface Expression {
  readonly text: string
  readonly values: Readonly<Record<string, string>>
}

/** What a filter became. */
export interface Compiled {
  /** Undefined: lets everything through. */
  readonly expression: Expression | undefined
  /** Lets nothing else through than the filter. */
  readonly exact: boolean
}

/** Makes expressions for one owner's records on one server. */
export class ExpressionBuilder {
  readonly values: Record<string, string> = {}
  readonly #features: ServerFeatures
  readonly #owner: string
  #count = 0

  constructor(features: ServerFeatures, owner: string) {
    this.#features = features
    this.#owner = owner
  }

  /** Live records of the owner that `conditions`, each already an expression, let through. The fence around them is ours. */
  fence(nowMs: number | undefined, ...conditions: readonly (string | undefined)[]): Expression {
    const parts = [`owner == ${encodeText(this.#owner)}`]
    if (nowMs !== undefined) parts.push(`expire_ms > ${Math.floor(nowMs)}`)
    for (const condition of conditions) if (condition !== undefined) parts.push(`(${condition})`)
    return { text: parts.join(" and "), values: this.values }
  }

  /** The filter, without the fence. `text` is undefined where it lets everything through. */
  filter(filter: Filter | undefined): { readonly text: string | undefined; readonly exact: boolean } {
    if (filter === undefined) return { text: undefined, exact: true }
    const { text, exact } = this.#compile(filter)
    return { text: text === true ? undefined : text === false ? 'owner == ""' : text, exact }
  }

  #compile(filter: Filter): Part {
    switch (filter.kind) {
      case "and":
        return all(filter.terms.map((term) => this.#compile(term)))
      case "or":
        return some(filter.terms.map((term) => this.#compile(term)))
      case "not": {
        const inner = this.#compile(filter.term)
        if (!inner.exact) return ANYTHING
        return typeof inner.text === "boolean" ? sure(!inner.text) : sure(`not (${inner.text})`)
      }
      default:
        return this.#leaf(filter)
    }
  }

  #leaf(filter: Extract<Filter, { kind: "compare" | "has" | "present" }>): Part {
    const { field } = filter.ref
    switch (field) {
      case "id":
        if (filter.kind === "present") return sure(true)
        return filter.kind === "compare" ? this.#key(filter.op, filter.value) : ANYTHING
      case "revision":
        if (filter.kind === "present") return sure(true)
        return filter.kind === "compare" ? revision(filter.op, filter.value) : ANYTHING
      case "create_time":
      case "update_time":
        if (filter.kind === "present") return sure(true)
        return filter.kind === "compare" ? time(field, filter.op, filter.value) : ANYTHING
      case "expire_time": {
        const present = sure(`expire_ms < ${NEVER_MS}`)
        if (filter.kind === "present") return present
        return filter.kind === "compare" ? all([time(field, filter.op, filter.value), present]) : ANYTHING
      }
      case "metadata":
        return this.#metadata(filter)
      default:
        return ANYTHING
    }
  }

  #key(op: CompareOp, value: FilterValue): Part {
    if (value.type !== "string" || !value.value.isWellFormed()) return ANYTHING
    return sure(`pk ${sign(op)} ${encodeText(encodeKey(this.#owner, value.value))}`)
  }

  #metadata(filter: Extract<Filter, { kind: "compare" | "has" | "present" }>): Part {
    const { path } = filter.ref
    if (path.length === 0 || !path.every((segment) => PLAIN.test(segment))) return ANYTHING
    const place = `metadata${path.map((segment) => `["${segment}"]`).join("")}`
    if (filter.kind !== "compare" || filter.op === "!=") {
      // An object has the key that a filter asks for also where nothing is behind it.
      const mayBeEmpty = filter.kind !== "has" || filter.value.type === "string"
      if (mayBeEmpty && !this.#features.existsEmpty) return ANYTHING
      return { text: `exists ${place}`, exact: false }
    }
    const literal = this.#literal(filter.value)
    if (literal === undefined) return ANYTHING
    return { text: `${place} ${sign(filter.op)} ${literal}`, exact: this.#features.exactJson }
  }

  #literal(value: FilterValue): string | undefined {
    if (value.type !== "string" && value.type !== "double" && value.type !== "bool") return undefined
    if (value.type === "string" && !value.value.isWellFormed()) return undefined
    // A template's whole number would be one to the server, and another number of another type than the stored one.
    if (this.#features.templates && value.type === "string") {
      const name = `v${this.#count++}`
      this.values[name] = value.value
      return `{${name}}`
    }
    return value.type === "string" ? encodeAnyText(value.value, this.#features) : encodeScalar(value.value)
  }
}

/** True or false: known without looking. */
interface Part {
  readonly text: string | boolean
  readonly exact: boolean
}

const ANYTHING: Part = { text: true, exact: false }
const sure = (text: string | boolean): Part => ({ text, exact: true })

/** What needs no quoting in a path, and is no index into a list. */
const PLAIN = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/

function all(parts: readonly Part[]): Part {
  const exact = parts.every((part) => part.exact)
  if (parts.some((part) => part.text === false)) return sure(false)
  const texts = parts.flatMap((part) => (typeof part.text === "string" ? [`(${part.text})`] : []))
  return { text: texts.length === 0 ? true : texts.join(" and "), exact }
}

function some(parts: readonly Part[]): Part {
  const exact = parts.every((part) => part.exact)
  if (parts.some((part) => part.text === true))
    return { text: true, exact: parts.some((part) => part.text === true && part.exact) }
  const texts = parts.flatMap((part) => (typeof part.text === "string" ? [`(${part.text})`] : []))
  return { text: texts.length === 0 ? false : texts.join(" or "), exact }
}

function sign(op: CompareOp): string {
  return op === "=" ? "==" : op
}

const INT64_MAX = 9_223_372_036_854_775_807n

/** Revisions are over 0 and below 2^63; the server's own numbers end there. */
function revision(op: CompareOp, value: FilterValue): Part {
  if (value.type !== "int") return ANYTHING
  if (value.value < 0n) return sure(op === ">" || op === ">=" || op === "!=")
  if (value.value > INT64_MAX) return sure(op === "<" || op === "<=" || op === "!=")
  return sure(`revision ${sign(op)} ${value.value}`)
}

const TIME_FIELDS = { create_time: "create_ms", update_time: "update_ms", expire_time: "expire_ms" } as const

/** Stored times are whole milliseconds; a time in a filter may lie between two of them. */
function time(field: keyof typeof TIME_FIELDS, op: CompareOp, value: FilterValue): Part {
  if (value.type !== "timestamp") return ANYTHING
  const column = TIME_FIELDS[field]
  const floor = Math.floor(value.ms)
  if (value.ms < 0) return sure(op === ">" || op === ">=" || op === "!=")
  if (floor === value.ms) return sure(`${column} ${sign(op)} ${floor}`)
  if (op === "=") return sure(false)
  if (op === "!=") return sure(true)
  return sure(op === ">" || op === ">=" ? `${column} > ${floor}` : `${column} <= ${floor}`)
}
