/** Adding to stored numbers. */
import type { CacheValue } from "../../domain/cache/model.ts"
import { wrongType } from "../../domain/cache/namespaces.ts"
import type { Addition, IncrementResult } from "../../domain/cache/operations.ts"
import { DomainError } from "../../domain/kernel/errors.ts"

const INT64_MAX = 9_223_372_036_854_775_807n
const INT64_MIN = -9_223_372_036_854_775_808n
const WHOLE = /^-?\d{1,19}$/
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i

type Sum = Pick<IncrementResult, "sum" | "applied">

/**
 * The sum of what is there (undefined: nothing) and an addition; `applied` is false and `sum` what is there where a bound would be
 * left. Raises WRONG_TYPE for what is not a number of that form, FAILED_PRECONDITION for an overflow.
 */
export function add(name: string, before: CacheValue | undefined, addition: Addition): Sum {
  return addition.case === "integer" ? addWhole(name, before, addition) : addDouble(name, before, addition)
}

function addWhole(
  name: string,
  before: CacheValue | undefined,
  addition: Addition & { case: "integer" },
): Sum {
  const from = before === undefined ? addition.initial : wholeIn(name, before)
  const value = from + addition.delta
  if (
    (addition.minimum !== undefined && value < addition.minimum) ||
    (addition.maximum !== undefined && value > addition.maximum)
  ) {
    return { sum: { case: "integer", value: from }, applied: false }
  }
  if (value > INT64_MAX || value < INT64_MIN) throw overflow(name, "int64")
  return { sum: { case: "integer", value }, applied: true }
}

function addDouble(
  name: string,
  before: CacheValue | undefined,
  addition: Addition & { case: "number" },
): Sum {
  const from = before === undefined ? addition.initial : doubleIn(name, before)
  const value = from + addition.delta
  if (
    (addition.minimum !== undefined && value < addition.minimum) ||
    (addition.maximum !== undefined && value > addition.maximum)
  ) {
    return { sum: { case: "number", value: from }, applied: false }
  }
  if (!Number.isFinite(value)) throw overflow(name, "a finite double")
  return { sum: { case: "number", value }, applied: true }
}

function wholeIn(name: string, { content }: CacheValue): bigint {
  if (content.case === "integer") return content.value
  if (content.case === "text" && WHOLE.test(content.value)) {
    const value = BigInt(content.value)
    if (value <= INT64_MAX && value >= INT64_MIN) return value
  }
  throw wrongType("cache key", name, content.case, "integer")
}

function doubleIn(name: string, { content }: CacheValue): number {
  if (content.case === "number") return content.value
  if (content.case === "integer") return Number(content.value)
  if (content.case === "text" && DECIMAL.test(content.value)) {
    const value = Number(content.value)
    if (Number.isFinite(value)) return value
  }
  throw wrongType("cache key", name, content.case, "number")
}

/** FAILED_PRECONDITION: the sum does not fit. */
export function overflow(name: string, form: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `the sum under "${name}" does not fit ${form}`, {
    metadata: { resource: "cache key", name, state: "overflow" },
  })
}
