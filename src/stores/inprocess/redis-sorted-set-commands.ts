/** Commands on sorted sets. */
import type {
  ScoreBounds,
  SortedSetAddOperation,
  SortedSetIncrementOperation,
  SortedSetRangeOperation,
  SortedSetRemoveOperation,
} from "../../domain/cache/operations.ts"
import type { RedisCommands, Reply } from "./redis-commands.ts"
import { bad, type Command, integer, number } from "./redis-words.ts"
import { SortedSet } from "./sorted-set.ts"

const CONDITIONS: Readonly<Record<string, SortedSetAddOperation["condition"]>> = {
  NX: "ifAbsent",
  XX: "ifPresent",
  GT: "ifGreater",
  LT: "ifLess",
}

type By = SortedSetRangeOperation["by"]

function add(to: RedisCommands, [key = "", ...words]: readonly string[]): Reply {
  const condition = CONDITIONS[(words[0] ?? "").toUpperCase()]
  const pairs = condition === undefined ? words : words.slice(1)
  if (pairs.length === 0 || pairs.length % 2 !== 0) throw bad("a pair of score and member")
  const members = []
  for (let at = 0; at < pairs.length; at += 2) {
    members.push({ score: number(pairs[at]), member: pairs[at + 1] ?? "" })
  }
  const { added } = to.run<SortedSetAddOperation>({
    kind: "sortedSetAdd",
    key,
    members,
    condition: condition ?? "always",
    expiration: undefined,
    refreshTtl: false,
  })
  return ["value", added]
}

function read(to: RedisCommands, key: string, by: By, options: readonly string[]): Reply {
  let reverse = false
  let withScores = false
  let offset = 0
  let limit = Number.MAX_SAFE_INTEGER
  for (let at = 0; at < options.length; at++) {
    const option = (options[at] ?? "").toUpperCase()
    if (option === "REV") reverse = true
    else if (option === "WITHSCORES") withScores = true
    else if (option === "LIMIT") {
      offset = Math.max(0, integer(options[++at]))
      limit = Math.max(0, integer(options[++at]))
    } else throw bad("an option of this command")
  }
  const { members } = to.run<SortedSetRangeOperation>({
    kind: "sortedSetRange",
    key,
    by,
    reverse,
    offset,
    limit,
  })
  return ["value", members.flatMap(({ member, score }) => (withScores ? [member, String(score)] : [member]))]
}

function bounds(low: string | undefined, high: string | undefined): { readonly score: ScoreBounds } {
  const [minimum, minimumExclusive] = bound(low)
  const [maximum, maximumExclusive] = bound(high)
  return { score: { minimum, maximum, minimumExclusive, maximumExclusive } }
}

function bound(word = ""): readonly [number, boolean] {
  if (word === "-inf") return [Number.NEGATIVE_INFINITY, false]
  if (word === "+inf" || word === "inf") return [Number.POSITIVE_INFINITY, false]
  return word.startsWith("(") ? [number(word.slice(1)), true] : [number(word), false]
}

function setOf(to: RedisCommands, key: string): SortedSet | undefined {
  const collection = to.space.findKind(key, "sortedSet", to.nowMs)?.collection
  return collection instanceof SortedSet ? collection : undefined
}

/** By name. */
export const SORTED_SET_COMMANDS: Readonly<Record<string, Command>> = {
  ZADD: { kind: "sortedSet", keys: "first", least: 3, run: add },
  ZREM: {
    kind: "sortedSet",
    keys: "first",
    least: 2,
    run: (to, [key = "", ...members]) => [
      "value",
      to.run<SortedSetRemoveOperation>({ kind: "sortedSetRemove", key, members }).removed,
    ],
  },
  ZSCORE: {
    kind: "sortedSet",
    keys: "first",
    least: 2,
    run(to, [key = "", member = ""]) {
      const score = setOf(to, key)?.score(member)
      return score === undefined ? ["nothing"] : ["value", String(score)]
    },
  },
  ZRANK: {
    kind: "sortedSet",
    keys: "first",
    least: 2,
    run(to, [key = "", member = ""]) {
      const set = setOf(to, key)
      return set?.score(member) === undefined ? ["nothing"] : ["value", set.rank(member)]
    },
  },
  ZCARD: {
    kind: "sortedSet",
    keys: "first",
    least: 1,
    run: (to, [key = ""]) => ["value", setOf(to, key)?.size ?? 0],
  },
  ZCOUNT: {
    kind: "sortedSet",
    keys: "first",
    least: 3,
    run(to, [key = "", low, high]) {
      const set = setOf(to, key)
      const { score } = bounds(low, high)
      if (set === undefined) return ["value", 0]
      const below = set.countBelow(score.minimum, score.minimumExclusive)
      return ["value", Math.max(0, set.countBelow(score.maximum, !score.maximumExclusive) - below)]
    },
  },
  ZINCRBY: {
    kind: "sortedSet",
    keys: "first",
    least: 3,
    run(to, [key = "", by, member = ""]) {
      const { score } = to.run<SortedSetIncrementOperation>({
        kind: "sortedSetIncrement",
        key,
        member,
        delta: number(by),
        expiration: undefined,
        refreshTtl: false,
      })
      return ["value", String(score)]
    },
  },
  ZRANGE: {
    kind: "sortedSet",
    keys: "first",
    least: 3,
    run: (to, [key = "", start, stop, ...options]) =>
      read(to, key, { rank: { start: integer(start), stop: integer(stop) } }, options),
  },
  ZRANGEBYSCORE: {
    kind: "sortedSet",
    keys: "first",
    least: 3,
    run: (to, [key = "", low, high, ...options]) => read(to, key, bounds(low, high), options),
  },
}
