import { inspect } from "node:util"

const HIDDEN = "***"

/** A value that must not be seen: every way of printing it gives its mask. Only {@link Secret.reveal} gives the value. */
export class Secret {
  readonly #value: string
  readonly #shown: string

  /** `shown` is printed in its place; it must not contain the secret part. */
  constructor(value: string, shown: string = HIDDEN) {
    this.#value = value
    this.#shown = shown
  }

  /** The value itself, for the one place that needs it. */
  reveal(): string {
    return this.#value
  }

  toString(): string {
    return this.#shown
  }

  toJSON(): string {
    return this.#shown
  }

  [inspect.custom](): string {
    return this.#shown
  }
}

/**
 * A URL as a secret that shows everything but its password and its query, where drivers accept passwords as well. By the text
 * itself, for a URL with several hosts is none to the parser.
 */
export function secretUrl(text: string): Secret {
  const parts = /^([a-z0-9+.-]+:\/\/)(?:([^/?#]*)@)?([^?#@]*)([?#].*)?$/i.exec(text)
  if (parts === null) return new Secret(text)
  const [, scheme = "", login, rest = "", query] = parts
  const user = login === undefined ? "" : `${login.replace(/:.*$/s, `:${HIDDEN}`)}@`
  return new Secret(text, `${scheme}${user}${rest}${query === undefined ? "" : `?${HIDDEN}`}`)
}
