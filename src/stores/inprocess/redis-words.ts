/** Arguments of commands, and what a command is. */
import type { CacheKind } from "../../domain/cache/model.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { RedisCommands, Reply } from "./redis-commands.ts"

/** A command that scripts may call. */
export interface Command {
  /** The kind of key it works on, which the namespace must take. */
  readonly kind: CacheKind | "any"
  /** Which of its arguments are keys. */
  readonly keys: "none" | "first" | "all"
  /** How many arguments it needs. */
  readonly least: number
  readonly run: (to: RedisCommands, args: readonly string[]) => Reply
}

/** A whole number that a double holds exactly. */
export function integer(word: string | undefined): number {
  const value = /^-?\d{1,16}$/.test(word ?? "") ? Number(word) : Number.NaN
  if (Number.isSafeInteger(value)) return value
  throw bad("a whole number")
}

/** A finite number. */
export function number(word: string | undefined): number {
  const value = word === undefined || word.trim() === "" ? Number.NaN : Number(word)
  if (Number.isFinite(value)) return value
  throw bad("a number")
}

/** A failed argument. */
export function bad(expected: string): DomainError {
  return new DomainError("INVALID_FIELD", `an argument is not ${expected}`)
}
