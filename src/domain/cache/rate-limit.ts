/** Rules for sliding-window limits that hold for every engine. */
import { DomainError, invalidField } from "../kernel/errors.ts"

/** How hits are counted. */
export type RateLimitAlgorithm = "exactLog" | "weightedWindows"

/** Limits up to this count exactly unless the caller chooses. */
export const EXACT_BY_DEFAULT_UP_TO = 1_000

/** Beyond this the exact log would take too much memory. */
export const EXACT_UP_TO = 10_000

/** One limit and what this call costs against it. */
export interface RateLimitRule {
  readonly name: string
  readonly key: string
  readonly limit: number
  readonly windowMs: number
  /** 0 only looks. */
  readonly cost: number
  readonly algorithm: RateLimitAlgorithm
}

/** A limit after the call. */
export interface RateLimitVerdict {
  readonly allowed: boolean
  readonly remaining: number
  /** 0 where it passes now. */
  readonly retryAfterMs: number
  /** When the whole limit is free again. */
  readonly resetTimeMs: number
}

/** The algorithm for a limit when the caller leaves the choice. */
export function chooseAlgorithm(limit: number): RateLimitAlgorithm {
  return limit <= EXACT_BY_DEFAULT_UP_TO ? "exactLog" : "weightedWindows"
}

/** Refuses rules that could never pass, that cost too much memory, or that count twice against one window. */
export function checkRules(rules: readonly RateLimitRule[]): void {
  const seen = new Set<string>()
  for (const [index, rule] of rules.entries()) {
    if (rule.cost > rule.limit) {
      throw invalidField(`limits[${index}].cost`, "is more than the limit, so the call could never pass")
    }
    if (rule.algorithm === "exactLog" && rule.limit > EXACT_UP_TO) {
      throw new DomainError("LIMIT_EXCEEDED", `limits[${index}].limit is over ${EXACT_UP_TO} for EXACT_LOG`, {
        metadata: {
          limit: `limits[${index}].limit`,
          value: String(rule.limit),
          maximum: String(EXACT_UP_TO),
        },
      })
    }
    const identity = `${rule.name.length}:${rule.name}${rule.key}`
    if (seen.has(identity))
      throw invalidField(`limits[${index}]`, "repeats the name and key of another limit")
    seen.add(identity)
  }
}
