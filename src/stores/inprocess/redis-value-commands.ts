/** Commands on values and on keys of any kind. */
import type { Expiration } from "../../domain/cache/model.ts"
import type {
  Addition,
  DeleteOperation,
  ExpireOperation,
  GetOperation,
  IncrementOperation,
  IncrementResult,
  SetOperation,
} from "../../domain/cache/operations.ts"
import { overflow } from "./arithmetic.ts"
import { asText, type RedisCommands, type Reply } from "./redis-commands.ts"
import { type Command, integer, number } from "./redis-words.ts"

const SECOND = 1_000
const MOST = BigInt(Number.MAX_SAFE_INTEGER)
const OK: Reply = ["status", "OK"]

function set(to: RedisCommands, [key = "", value = "", ...options]: readonly string[]): Reply {
  let expiration: Expiration
  let condition: SetOperation["condition"] = "always"
  let keepExpiration = false
  for (let at = 0; at < options.length; at++) {
    const option = (options[at] ?? "").toUpperCase()
    if (option === "NX") condition = "ifAbsent"
    else if (option === "XX") condition = "ifPresent"
    else if (option === "KEEPTTL") keepExpiration = true
    else if (option === "EX") expiration = { ttlMs: integer(options[++at]) * SECOND }
    else if (option === "PX") expiration = { ttlMs: integer(options[++at]) }
    else return ["error", `SET does not know ${option}`]
  }
  const { applied } = to.run<SetOperation>({
    kind: "set",
    key,
    content: { case: "text", value },
    contentType: "",
    expiration,
    keepExpiration,
    condition,
    ifRevision: undefined,
    tags: [],
  })
  return applied ? OK : ["nothing"]
}

function remove(to: RedisCommands, keys: readonly string[]): Reply {
  let deleted = 0
  for (const key of keys)
    if (to.run<DeleteOperation>({ kind: "delete", key, ifRevision: undefined })) deleted++
  return ["value", deleted]
}

function increment(to: RedisCommands, key: string, addition: Addition): Reply {
  return added(
    key,
    to.run<IncrementOperation>({
      kind: "increment",
      key,
      addition,
      expiration: undefined,
      refreshTtl: false,
    }),
  )
}

/** The answer to an addition, whose sum scripts have as a double. Raises FAILED_PRECONDITION where {@link whole} kept it from more. */
export function added(key: string, { sum, applied }: Pick<IncrementResult, "sum" | "applied">): Reply {
  if (!applied) throw overflow(key, "the numbers of scripts")
  return ["value", sum.case === "integer" ? Number(sum.value) : String(sum.value)]
}

/** An addition of a whole number, up to what a double holds. */
export function whole(delta: number): Addition {
  return { case: "integer", delta: BigInt(delta), initial: 0n, minimum: -MOST, maximum: MOST }
}

/** An addition of a double. */
export function double(delta: number): Addition {
  return { case: "number", delta, initial: 0, minimum: undefined, maximum: undefined }
}

function expire(to: RedisCommands, key: string, expiration: ExpireOperation["expiration"]): Reply {
  const { found } = to.run<ExpireOperation>({ kind: "expire", key, expiration, ifRevision: undefined })
  return ["value", found ? 1 : 0]
}

function timeToLive(to: RedisCommands, key: string, unitMs: number): Reply {
  const entry = to.space.find(key, to.nowMs)
  if (entry === undefined) return ["value", -2]
  if (entry.expireTimeMs === Number.POSITIVE_INFINITY) return ["value", -1]
  return ["value", Math.ceil((entry.expireTimeMs - to.nowMs) / unitMs)]
}

const TYPES = { value: "string", hash: "hash", list: "list", sortedSet: "zset" } as const

/** By name. */
export const VALUE_COMMANDS: Readonly<Record<string, Command>> = {
  GET: {
    kind: "value",
    keys: "first",
    least: 1,
    run(to, [key = ""]) {
      const entry = to.run<GetOperation>({ kind: "get", key })
      return entry === undefined ? ["nothing"] : ["value", asText(entry.content)]
    },
  },
  SET: { kind: "value", keys: "first", least: 2, run: set },
  DEL: { kind: "any", keys: "all", least: 1, run: remove },
  EXISTS: {
    kind: "any",
    keys: "all",
    least: 1,
    run: (to, keys) => ["value", keys.filter((key) => to.space.find(key, to.nowMs) !== undefined).length],
  },
  TYPE: {
    kind: "any",
    keys: "first",
    least: 1,
    run(to, [key = ""]) {
      const entry = to.space.find(key, to.nowMs)
      return ["status", entry === undefined ? "none" : TYPES[entry.kind]]
    },
  },
  INCR: { kind: "value", keys: "first", least: 1, run: (to, [key = ""]) => increment(to, key, whole(1)) },
  DECR: { kind: "value", keys: "first", least: 1, run: (to, [key = ""]) => increment(to, key, whole(-1)) },
  INCRBY: {
    kind: "value",
    keys: "first",
    least: 2,
    run: (to, [key = "", by]) => increment(to, key, whole(integer(by))),
  },
  DECRBY: {
    kind: "value",
    keys: "first",
    least: 2,
    run: (to, [key = "", by]) => increment(to, key, whole(-integer(by))),
  },
  INCRBYFLOAT: {
    kind: "value",
    keys: "first",
    least: 2,
    run: (to, [key = "", by]) => increment(to, key, double(number(by))),
  },
  EXPIRE: {
    kind: "any",
    keys: "first",
    least: 2,
    run: (to, [key = "", seconds]) => expire(to, key, { ttlMs: integer(seconds) * SECOND }),
  },
  PEXPIRE: {
    kind: "any",
    keys: "first",
    least: 2,
    run: (to, [key = "", milliseconds]) => expire(to, key, { ttlMs: integer(milliseconds) }),
  },
  PERSIST: { kind: "any", keys: "first", least: 1, run: (to, [key = ""]) => expire(to, key, "never") },
  TTL: { kind: "any", keys: "first", least: 1, run: (to, [key = ""]) => timeToLive(to, key, SECOND) },
  PTTL: { kind: "any", keys: "first", least: 1, run: (to, [key = ""]) => timeToLive(to, key, 1) },
  TIME: {
    kind: "any",
    keys: "none",
    least: 0,
    run: (to) => ["value", [String(Math.floor(to.nowMs / SECOND)), String((to.nowMs % SECOND) * SECOND)]],
  },
}
