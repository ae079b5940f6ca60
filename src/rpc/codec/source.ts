/** Source text of small functions, made from descriptors of ours only and compiled once per message type. */

/** What a compiled function throws on anything that it does not know; its caller asks protobuf-es or protovalidate instead. */
export const UNUSUAL = new Error("not for the fast path")

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/

/** False under `--disallow-code-generation-from-strings`: then everything goes the slow way. */
const allowed = mayCompile()

function mayCompile(): boolean {
  try {
    return new Function("return true")() === true
  } catch {
    return false
  }
}

/** Collects functions that call each other by name, and the values that they use. */
export class Source {
  readonly #values: unknown[] = []
  readonly #functions: string[] = []
  readonly #names = new Map<string, string>()

  /** The name by which generated code knows a value. */
  value(value: unknown): string {
    const known = this.#values.indexOf(value)
    return `k${known < 0 ? this.#values.push(value) - 1 : known}`
  }

  /** The name of the function for `key`; `write` gives its parameters and body the first time, and may ask for the same key again. */
  function(key: string, write: () => readonly [parameters: string, body: string]): string {
    const known = this.#names.get(key)
    if (known !== undefined) return known
    const name = `f${this.#names.size}`
    this.#names.set(key, name)
    const [parameters, body] = write()
    this.#functions.push(`function ${name}(${parameters}) {\n${body}\n}`)
    return name
  }

  /** The function of that name, or undefined where the runtime forbids to compile text. */
  compile(name: string): unknown {
    if (!allowed) return undefined
    const parameters = this.#values.map((_, index) => `k${index}`)
    const text = `"use strict"\n${this.#functions.join("\n")}\nreturn ${name}`
    return new Function(...parameters, text)(...this.#values)
  }
}

/** `.name`, for a property that a descriptor names. */
export function property(localName: string): string {
  if (!IDENTIFIER.test(localName)) throw new Error(`${localName} is not an identifier`)
  return `.${localName}`
}
