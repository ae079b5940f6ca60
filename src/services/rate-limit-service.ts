/** RateLimitService: message to domain and back. */
import { durationFromMs } from "@bufbuild/protobuf/wkt"
import type { RateLimiter } from "../domain/cache/ports.ts"
import {
  checkRules,
  chooseAlgorithm,
  type RateLimitAlgorithm,
  type RateLimitRule,
} from "../domain/cache/rate-limit.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import {
  RateLimitAlgorithm as AlgorithmMessage,
  type RateLimit,
  RateLimitService,
} from "../gen/keelplane/v1/rate_limit_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import { andThen } from "./cache-deps.ts"
import { durationMs, toTimestamp } from "./cache-values.ts"

const LONGEST_WINDOW_MS = 2_678_400_000

/** Makes the service. */
export function createRateLimitService({ limiter }: { readonly limiter: RateLimiter }): Service {
  return service(RateLimitService, {
    checkRateLimit(request, ctx) {
      const rules = request.limits.map(toRule)
      checkRules(rules)
      return andThen(limiter.check(ctx, rules), ({ allowed, verdicts }) => ({
        allowed,
        states: verdicts.map((verdict, index) => ({
          allowed: verdict.allowed,
          remaining: BigInt(verdict.remaining),
          limit: BigInt(rules[index]?.limit ?? 0),
          retryAfter: verdict.retryAfterMs === 0 ? undefined : durationFromMs(verdict.retryAfterMs),
          resetTime: toTimestamp(verdict.resetTimeMs),
          algorithm: fromAlgorithm(rules[index]?.algorithm),
        })),
      }))
    },
  })
}

function toRule(message: RateLimit, index: number): RateLimitRule {
  const field = `limits[${index}]`
  if (message.name === "") throw invalidField(`${field}.name`, "is empty")
  if (message.limit < 1n) throw invalidField(`${field}.limit`, "must be at least 1")
  if (message.cost !== undefined && message.cost < 0n) throw invalidField(`${field}.cost`, "is negative")
  if (message.window === undefined) throw invalidField(`${field}.window`, "is missing")
  const limit = Number(message.limit)
  return {
    name: message.name,
    key: message.key,
    limit,
    windowMs: durationMs(message.window, `${field}.window`, 1, LONGEST_WINDOW_MS),
    cost: Number(message.cost ?? 1n),
    algorithm: toAlgorithm(message.algorithm, limit, field),
  }
}

function toAlgorithm(algorithm: AlgorithmMessage, limit: number, field: string): RateLimitAlgorithm {
  switch (algorithm) {
    case AlgorithmMessage.UNSPECIFIED:
      return chooseAlgorithm(limit)
    case AlgorithmMessage.EXACT_LOG:
      return "exactLog"
    case AlgorithmMessage.WEIGHTED_WINDOWS:
      return "weightedWindows"
    default:
      throw invalidField(`${field}.algorithm`, "is not a RateLimitAlgorithm")
  }
}

function fromAlgorithm(algorithm: RateLimitAlgorithm | undefined): AlgorithmMessage {
  switch (algorithm) {
    case "exactLog":
      return AlgorithmMessage.EXACT_LOG
    case "weightedWindows":
      return AlgorithmMessage.WEIGHTED_WINDOWS
    default:
      return AlgorithmMessage.UNSPECIFIED
  }
}
