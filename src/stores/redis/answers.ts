/** What commands take and answer. */
import { DomainError } from "../../domain/kernel/errors.ts"

/** What commands take. */
export type Argument = string | number | Buffer

/** What commands answer: bulk strings as buffers. */
export type Answer = Buffer | number | null | readonly Answer[]

/** A list that a script must have answered. */
export function asList(answer: Answer | undefined): readonly Answer[] {
  if (Array.isArray(answer)) return answer as readonly Answer[]
  throw unexpected("a list")
}

/** Bytes that a script must have answered. */
export function asBytes(answer: Answer | undefined): Buffer {
  if (Buffer.isBuffer(answer)) return answer
  throw unexpected("a text")
}

/** A text that a script must have answered. */
export function asText(answer: Answer | undefined): string {
  return asBytes(answer).toString("utf8")
}

/** A number that a script answered as text. */
export function asNumber(answer: Answer | undefined): number {
  return Number(asText(answer))
}

function unexpected(expected: string): DomainError {
  return new DomainError("INTERNAL", "internal error", {
    cause: new TypeError(`the cache store's answer is not ${expected}`),
  })
}
