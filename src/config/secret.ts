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

/** A URL as a secret that shows everything but its password and its query, where drivers accept passwords as well. */
export function secretUrl(text: string): Secret {
  try {
    const url = new URL(text)
    if (url.password !== "") url.password = HIDDEN
    if (url.search !== "") url.search = `?${HIDDEN}`
    return new Secret(text, url.toString())
  } catch {
    return new Secret(text)
  }
}
