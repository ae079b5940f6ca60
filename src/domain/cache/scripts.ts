/** Scripts that every daemon has. They keep to the commands that all engines' `redis.call` knows and to declared keys. */

import { invalidField } from "../kernel/errors.ts"
import type { ScriptCall } from "./ports.ts"

/** Raises INVALID_FIELD for a NUL in a key or an argument: not every engine's scripts can have one. */
export function checkScriptCall({ keys, args }: ScriptCall): void {
  for (const [field, texts] of [
    ["keys", keys],
    ["args", args],
  ] as const) {
    const index = texts.findIndex((text) => text.includes("\0"))
    if (index >= 0) throw invalidField(`${field}[${index}]`, "contains a NUL, which scripts cannot take")
  }
}

/** Sources in Lua 5.4 by name; the configuration may add others and replace these. */
export const BUILT_IN_SCRIPTS: Readonly<Record<string, string>> = {
  // KEYS[1]; ARGV[1] expected text, ARGV[2] new text. Answers whether it was set. The expiry stays.
  "compare-and-set": `
    if redis.call("GET", KEYS[1]) ~= ARGV[1] then return false end
    redis.call("SET", KEYS[1], ARGV[2], "KEEPTTL")
    return true`,
  // KEYS[1]; ARGV[1] expected text. Answers whether it was deleted.
  "compare-and-delete": `
    if redis.call("GET", KEYS[1]) ~= ARGV[1] then return false end
    redis.call("DEL", KEYS[1])
    return true`,
  // KEYS[1] from, KEYS[2] to: moves the last item of one list to the front of another. Answers it, or null.
  "list-move": `
    local item = redis.call("RPOP", KEYS[1])
    if not item then return nil end
    redis.call("LPUSH", KEYS[2], item)
    return item`,
}
