/** Commands on hashes. */
import type {
  Addition,
  HashDeleteOperation,
  HashGetOperation,
  HashIncrementOperation,
  HashSetOperation,
} from "../../domain/cache/operations.ts"
import { asText, type RedisCommands, type Reply } from "./redis-commands.ts"
import { added, double, whole } from "./redis-value-commands.ts"
import { bad, type Command, integer, number } from "./redis-words.ts"

function read(to: RedisCommands, key: string, names: readonly string[]) {
  return to.run<HashGetOperation>({ kind: "hashGet", key, names })
}

function set(to: RedisCommands, [key = "", ...words]: readonly string[]): Reply {
  if (words.length % 2 !== 0) throw bad("a pair of field and value")
  const fields = []
  for (let at = 0; at < words.length; at += 2) {
    fields.push({
      name: words[at] ?? "",
      value: { content: { case: "text", value: words[at + 1] ?? "" }, contentType: "" },
    } as const)
  }
  const { created } = to.run<HashSetOperation>({
    kind: "hashSet",
    key,
    fields,
    onlyIfAbsent: false,
    ifRevision: undefined,
    expiration: undefined,
    refreshTtl: false,
  })
  return ["value", created]
}

function increment(to: RedisCommands, key: string, name: string, addition: Addition): Reply {
  const result = to.run<HashIncrementOperation>({
    kind: "hashIncrement",
    key,
    name,
    addition,
    expiration: undefined,
    refreshTtl: false,
  })
  return added(key, result)
}

/** By name. */
export const HASH_COMMANDS: Readonly<Record<string, Command>> = {
  HSET: { kind: "hash", keys: "first", least: 3, run: set },
  HGET: {
    kind: "hash",
    keys: "first",
    least: 2,
    run(to, [key = "", name = ""]) {
      const [field] = read(to, key, [name]).fields
      return field === undefined ? ["nothing"] : ["value", asText(field.value.content)]
    },
  },
  HMGET: {
    kind: "hash",
    keys: "first",
    least: 2,
    run(to, [key = "", ...names]) {
      const found = new Map(
        read(to, key, names).fields.map(({ name, value }) => [name, asText(value.content)]),
      )
      return ["value", names.map((name) => found.get(name) ?? false)]
    },
  },
  HGETALL: {
    kind: "hash",
    keys: "first",
    least: 1,
    run: (to, [key = ""]) => [
      "value",
      read(to, key, []).fields.flatMap(({ name, value }) => [name, asText(value.content)]),
    ],
  },
  HEXISTS: {
    kind: "hash",
    keys: "first",
    least: 2,
    run: (to, [key = "", name = ""]) => ["value", read(to, key, [name]).fields.length],
  },
  HLEN: {
    kind: "hash",
    keys: "first",
    least: 1,
    run: (to, [key = ""]) => ["value", read(to, key, [""]).length],
  },
  HDEL: {
    kind: "hash",
    keys: "first",
    least: 2,
    run: (to, [key = "", ...names]) => [
      "value",
      to.run<HashDeleteOperation>({ kind: "hashDelete", key, names }).deleted,
    ],
  },
  HINCRBY: {
    kind: "hash",
    keys: "first",
    least: 3,
    run: (to, [key = "", name = "", by]) => increment(to, key, name, whole(integer(by))),
  },
  HINCRBYFLOAT: {
    kind: "hash",
    keys: "first",
    least: 3,
    run: (to, [key = "", name = "", by]) => increment(to, key, name, double(number(by))),
  },
}
