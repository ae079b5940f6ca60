/** The subset of Redis commands that scripts may call, over the declared keys of one space. */
import type { CacheKind, Content } from "../../domain/cache/model.ts"
import { wrongType } from "../../domain/cache/namespaces.ts"
import type { Operation, ResultOf } from "../../domain/cache/operations.ts"
import { MAXIMUM_VALUE_BYTES } from "../../domain/cache/size.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import { HASH_COMMANDS } from "./redis-hash-commands.ts"
import { LIST_COMMANDS } from "./redis-list-commands.ts"
import { SORTED_SET_COMMANDS } from "./redis-sorted-set-commands.ts"
import { VALUE_COMMANDS } from "./redis-value-commands.ts"
import type { Command } from "./redis-words.ts"
import { runOperation } from "./run-operation.ts"
import type { Space } from "./space.ts"

const COMMANDS: ReadonlyMap<string, Command> = new Map(
  Object.entries({ ...VALUE_COMMANDS, ...HASH_COMMANDS, ...LIST_COMMANDS, ...SORTED_SET_COMMANDS }),
)

/** What a command answers: how Lua sees it, and the value. */
export type Reply =
  | readonly ["value", string | number | readonly (string | false)[]]
  | readonly ["status" | "error", string]
  | readonly ["nothing"]

/** Runs commands for one script. */
export class RedisCommands {
  readonly space: Space
  readonly nowMs: number
  readonly #keys: ReadonlySet<string>

  constructor(space: Space, keys: readonly string[], nowMs: number) {
    this.space = space
    this.nowMs = nowMs
    this.#keys = new Set(keys)
  }

  /** Runs one command; a failure is an answer, as scripts may catch it. */
  call(words: readonly string[]): Reply {
    const [name = "", ...args] = words
    const command = COMMANDS.get(name.toUpperCase())
    if (command === undefined)
      return ["error", `${name.toUpperCase()} is not a command that scripts may call`]
    if (args.length < command.least) return ["error", `${name.toUpperCase()} needs more arguments`]
    if (args.some((word) => word.length > MAXIMUM_VALUE_BYTES))
      return ["error", "an argument is larger than 1 MiB"]
    const keys = command.keys === "all" ? args : command.keys === "first" ? args.slice(0, 1) : []
    const stranger = keys.find((key) => !this.#keys.has(key))
    if (stranger !== undefined) return ["error", `key "${stranger}" is not declared in KEYS`]
    try {
      this.#checkKind(command.kind)
      return withoutNul(command.run(this, args))
    } catch (error) {
      if (error instanceof DomainError) return ["error", `${error.reason}: ${error.message}`]
      throw error
    }
  }

  /** Runs an operation on the space. */
  run<O extends Operation>(operation: Omit<O, "namespace">): ResultOf<O> {
    // The namespace is the space's own; Omit loses the union's discriminant, which the caller has just named.
    return runOperation(
      this.space,
      { ...operation, namespace: this.space.namespace } as unknown as O,
      this.nowMs,
    )
  }

  #checkKind(kind: CacheKind | "any"): void {
    const { namespace } = this.space
    if (kind === "any" || namespace.kind === "any" || namespace.kind === kind) return
    throw wrongType("cache namespace", namespace.name, namespace.kind, kind)
  }
}

/** The script runtime's strings end at a NUL: a reply that has one is refused rather than cut. */
function withoutNul(reply: Reply): Reply {
  const [, value] = reply
  const parts = Array.isArray(value) ? value : [value]
  const cut = parts.some((part) => typeof part === "string" && part.includes("\0"))
  return cut ? ["error", "the answer contains a NUL, which scripts cannot take"] : reply
}

/** A value as scripts see it. */
export function asText(content: Content): string {
  switch (content.case) {
    case "text":
      return content.value
    case "data":
      return Buffer.from(content.value).toString("utf8")
    case "json":
      return JSON.stringify(content.value)
    default:
      return String(content.value)
  }
}
