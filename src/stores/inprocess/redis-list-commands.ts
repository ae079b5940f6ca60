/** Commands on lists. */
import type {
  ListPopOperation,
  ListPushOperation,
  ListRangeOperation,
  ListTrimOperation,
} from "../../domain/cache/operations.ts"
import { asText, type RedisCommands, type Reply } from "./redis-commands.ts"
import { type Command, integer } from "./redis-words.ts"

type End = "head" | "tail"

function push(end: End): Command["run"] {
  return (to, [key = "", ...words]) => {
    const { length } = to.run<ListPushOperation>({
      kind: "listPush",
      key,
      end,
      values: words.map((value) => ({ content: { case: "text", value }, contentType: "" })),
      maximumLength: 0,
      onlyIfPresent: false,
      expiration: undefined,
      refreshTtl: false,
    })
    return ["value", length]
  }
}

function pop(end: End): Command["run"] {
  return (to, [key = "", count]) => {
    const { values } = to.run<ListPopOperation>({
      kind: "listPop",
      key,
      end,
      count: count === undefined ? 1 : Math.max(0, integer(count)),
    })
    if (count !== undefined) return ["value", values.map(({ content }) => asText(content))]
    const [value] = values
    return value === undefined ? ["nothing"] : ["value", asText(value.content)]
  }
}

function range(to: RedisCommands, key: string, start: number, stop: number) {
  const maximumItems = Number.MAX_SAFE_INTEGER
  return to.run<ListRangeOperation>({ kind: "listRange", key, start, stop, maximumItems })
}

function index(to: RedisCommands, [key = "", at]: readonly string[]): Reply {
  const place = integer(at)
  const [value] = range(to, key, place, place).values
  return value === undefined ? ["nothing"] : ["value", asText(value.content)]
}

/** By name. */
export const LIST_COMMANDS: Readonly<Record<string, Command>> = {
  LPUSH: { kind: "list", keys: "first", least: 2, run: push("head") },
  RPUSH: { kind: "list", keys: "first", least: 2, run: push("tail") },
  LPOP: { kind: "list", keys: "first", least: 1, run: pop("head") },
  RPOP: { kind: "list", keys: "first", least: 1, run: pop("tail") },
  LLEN: {
    kind: "list",
    keys: "first",
    least: 1,
    run: (to, [key = ""]) => ["value", range(to, key, 0, 0).length],
  },
  LINDEX: { kind: "list", keys: "first", least: 2, run: index },
  LRANGE: {
    kind: "list",
    keys: "first",
    least: 3,
    run: (to, [key = "", start, stop]) => [
      "value",
      range(to, key, integer(start), integer(stop)).values.map(({ content }) => asText(content)),
    ],
  },
  LTRIM: {
    kind: "list",
    keys: "first",
    least: 3,
    run(to, [key = "", start, stop]) {
      to.run<ListTrimOperation>({ kind: "listTrim", key, start: integer(start), stop: integer(stop) })
      return ["status", "OK"]
    },
  },
}
