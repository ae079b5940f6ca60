/** Conditions, as source text, for the rules of one value. */
import { type DescEnum, type DescMessage, isFieldSet, type Message } from "@bufbuild/protobuf"
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt"
import { portablePattern } from "./pattern.ts"
import type { Source } from "./source.ts"

/** What must hold of the value that is called `v`; undefined for a limit that is not known. */
type Check = (limit: unknown, v: string, source: Source, allowed: DescEnum | undefined) => string | undefined

const UUID = /^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$/

const AMONG: Readonly<Record<string, Check>> = {
  const: (limit, v, source) => `${v} === ${source.value(limit)}`,
  in: (limit, v, source) => `${source.value(limit)}.includes(${v})`,
  not_in: (limit, v, source) => `!${source.value(limit)}.includes(${v})`,
}

const STRING: Readonly<Record<string, Check>> = {
  ...AMONG,
  min_len: (limit, v, source) => {
    if (limit === 1n) return `${v}.length >= 1`
    return `${v}.length >= ${limit} && ${source.value(codePoints)}(${v}, ${limit}) >= ${limit}`
  },
  max_len: (limit, v, source) =>
    `(${v}.length <= ${limit} || ${source.value(codePoints)}(${v}, ${limit} + 1) <= ${limit})`,
  min_bytes: (limit, v, source) =>
    `(${v}.length >= ${limit} || ${source.value(Buffer)}.byteLength(${v}) >= ${limit})`,
  max_bytes: (limit, v, source) => `${source.value(hasAtMostBytes)}(${v}, ${limit})`,
  pattern: (limit, v, source) => {
    const pattern = portablePattern(limit as string)
    return pattern && `${source.value(pattern)}.test(${v})`
  },
  uuid: (limit, v, source) => (limit === true ? `${source.value(UUID)}.test(${v})` : undefined),
}

const NUMBER: Readonly<Record<string, Check>> = {
  ...AMONG,
  lt: (limit, v, source) => `${v} < ${source.value(limit)}`,
  lte: (limit, v, source) => `${v} <= ${source.value(limit)}`,
  gt: (limit, v, source) => `${v} > ${source.value(limit)}`,
  gte: (limit, v, source) => `${v} >= ${source.value(limit)}`,
  finite: (limit, v) => (limit === true ? `${v} - ${v} === 0` : undefined),
}

const SIZE: Readonly<Record<string, Check>> = {
  min_items: (limit, v) => `${v}.length >= ${limit}`,
  max_items: (limit, v) => `${v}.length <= ${limit}`,
  min_pairs: (limit, v) => `${v}.length >= ${limit}`,
  max_pairs: (limit, v) => `${v}.length <= ${limit}`,
  min_len: (limit, v) => `${v}.length >= ${limit}`,
  max_len: (limit, v) => `${v}.length <= ${limit}`,
  unique: (limit, v, source) => (limit === true ? `${source.value(isUnique)}(${v})` : undefined),
}

const ENUM: Readonly<Record<string, Check>> = {
  ...AMONG,
  defined_only: (limit, v, source, allowed) => {
    if (limit !== true || allowed === undefined) return undefined
    return `${source.value(new Set(allowed.values.map((each) => each.number)))}.has(${v})`
  },
}

const TIME: Readonly<Record<string, Check>> = {
  lt: (limit, v, source) => `${source.value(compareTimes)}(${v}, ${source.value(limit)}) < 0`,
  lte: (limit, v, source) => `${source.value(compareTimes)}(${v}, ${source.value(limit)}) <= 0`,
  gt: (limit, v, source) => `${source.value(compareTimes)}(${v}, ${source.value(limit)}) > 0`,
  gte: (limit, v, source) => `${source.value(compareTimes)}(${v}, ${source.value(limit)}) >= 0`,
}

const CHECKS: Readonly<Record<string, Readonly<Record<string, Check>>>> = {
  "buf.validate.StringRules": STRING,
  "buf.validate.BytesRules": SIZE,
  "buf.validate.BoolRules": AMONG,
  "buf.validate.EnumRules": ENUM,
  "buf.validate.Int32Rules": NUMBER,
  "buf.validate.Int64Rules": NUMBER,
  "buf.validate.UInt32Rules": NUMBER,
  "buf.validate.UInt64Rules": NUMBER,
  "buf.validate.FloatRules": NUMBER,
  "buf.validate.DoubleRules": NUMBER,
  "buf.validate.RepeatedRules": SIZE,
  "buf.validate.MapRules": SIZE,
  "buf.validate.DurationRules": TIME,
  "buf.validate.TimestampRules": TIME,
}

/** What makes values comparable at all. */
const COMPARABLE: Readonly<Record<string, (value: never) => boolean>> = {
  "buf.validate.DurationRules": isCanonicalDuration,
  "buf.validate.TimestampRules": isCanonicalTimestamp,
}

/** The rules that are set, by name. */
export function setRules(desc: DescMessage, rules: Message): [name: string, limit: unknown][] {
  const found = desc.fields
    .filter((each) => isFieldSet(rules, each))
    .map((each): [string, unknown] => {
      const fields = rules as unknown as Readonly<Record<string, unknown>>
      if (each.oneof === undefined) return [each.name, fields[each.localName]]
      return [each.name, (fields[each.oneof.localName] as { value: unknown }).value]
    })
  return rules.$unknown === undefined ? found : [...found, ["", undefined]]
}

/** Statements that return false unless `v` keeps all of the rules for certain; those in `skip` are looked at elsewhere. */
export function checksOf(
  source: Source,
  desc: DescMessage,
  rules: Message,
  v: string,
  skip: readonly string[],
  allowed?: DescEnum,
): string {
  const known = CHECKS[desc.typeName]
  const set = setRules(desc, rules).filter(([name]) => !skip.includes(name))
  const conditions = set.map(([name, limit]) => known?.[name]?.(limit, v, source, allowed))
  const comparable = COMPARABLE[desc.typeName]
  if (comparable !== undefined && set.length > 0) conditions.unshift(`${source.value(comparable)}(${v})`)
  if (conditions.includes(undefined) || isInverted(set)) return "return false"
  return conditions.map((each) => `if (!(${each})) return false`).join("\n")
}

/** A lower limit above the upper one asks for a value outside of both. */
function isInverted(set: readonly (readonly [name: string, limit: unknown])[]): boolean {
  const lower = set.find(([name]) => name === "gt" || name === "gte")?.[1]
  const upper = set.find(([name]) => name === "lt" || name === "lte")?.[1]
  if (lower === undefined || upper === undefined) return false
  if (typeof lower === "object") return compareTimes(lower as Duration, upper as Duration) > 0
  return !((lower as number) <= (upper as number))
}

/** How many characters a string has, counting no further than `enough`. */
function codePoints(text: string, enough: number): number {
  let count = 0
  for (const _ of text) if (++count >= enough) break
  return count
}

function hasAtMostBytes(text: string, most: number): boolean {
  // A UTF-16 code unit has at most three bytes in UTF-8.
  return text.length * 3 <= most || (text.length <= most && Buffer.byteLength(text) <= most)
}

function isUnique(items: readonly unknown[]): boolean {
  return items.length < 2 || new Set(items).size === items.length
}

const MAX_DURATION_SECONDS = 315_576_000_000n
const FIRST_SECOND = -62_135_596_800n
const LAST_SECOND = 253_402_300_799n

function isCanonicalDuration({ seconds, nanos }: Duration): boolean {
  if (seconds > MAX_DURATION_SECONDS || seconds < -MAX_DURATION_SECONDS) return false
  if (nanos > 999_999_999 || nanos < -999_999_999) return false
  return seconds === 0n || nanos === 0 || seconds > 0n === nanos > 0
}

function isCanonicalTimestamp({ seconds, nanos }: Timestamp): boolean {
  return seconds >= FIRST_SECOND && seconds <= LAST_SECOND && nanos >= 0 && nanos <= 999_999_999
}

/** Negative, zero or positive, for canonical values. */
function compareTimes(a: Duration | Timestamp, b: Duration | Timestamp): number {
  if (a.seconds === b.seconds) return a.nanos - b.nanos
  return a.seconds < b.seconds ? -1 : 1
}
