/** The rate limiter on a server: one script looks at all rules of a call and charges all or none. */
import type { RateLimiter } from "../../domain/cache/ports.ts"
import type { RateLimitRule, RateLimitVerdict } from "../../domain/cache/rate-limit.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { asNumber, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { requestIdReused } from "./decode-result.ts"
import { storeClosed } from "./errors.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey } from "./keys.ts"
import { LIMITS_SCRIPT } from "./lua/limits.ts"
import { hashTag } from "./slots.ts"

const WORDS_PER_VERDICT = 4

/** See the file's comment. */
export class RedisRateLimiter implements RateLimiter {
  readonly #connection: Connection
  readonly #keys: Keys
  readonly #script: Script
  #closed = false

  constructor(connection: Connection, keys: Keys, wrapScript: (text: string) => string) {
    this.#connection = connection
    this.#keys = keys
    this.#script = connection.script(wrapScript(LIMITS_SCRIPT))
  }

  async check(
    scope: CallScope,
    rules: readonly RateLimitRule[],
  ): Promise<{ readonly allowed: boolean; readonly verdicts: readonly RateLimitVerdict[] }> {
    if (this.#closed) throw storeClosed()
    this.#refuseSpread(scope, rules)
    const { idempotency } = scope
    const base = this.#keys.limited(scope.tenant, rules[0]?.key ?? "")
    const answer = await this.#connection.run(
      scope,
      "write",
      this.#script,
      [
        ...(idempotency === undefined ? [] : [recordKey(base, idempotency, "check")]),
        ...rules.flatMap((rule) => this.#keys.limit(scope.tenant, rule)),
      ],
      [
        this.#connection.scriptTime(),
        idempotency === undefined ? "" : hex(idempotency.bodyHash),
        RECORD_KEPT_MS,
        rules.length,
        ...rules.flatMap(({ algorithm, limit, windowMs, cost }) => [algorithm, limit, windowMs, cost]),
      ],
    )
    if (asText(answer[0]) === "reused") throw requestIdReused(idempotency?.requestId ?? "")
    return {
      allowed: asText(answer[0]) === "1",
      verdicts: rules.map((_, index) => {
        const at = 1 + index * WORDS_PER_VERDICT
        return {
          allowed: asText(answer[at]) === "1",
          remaining: asNumber(answer[at + 1]),
          retryAfterMs: asNumber(answer[at + 2]),
          resetTimeMs: asNumber(answer[at + 3]),
        }
      }),
    }
  }

  /** Raises UNSUPPORTED_BY_ENGINE where the rules' keys may be on different servers, which cannot charge all or none. */
  #refuseSpread(scope: CallScope, rules: readonly RateLimitRule[]): void {
    if (!this.#keys.isSpread || rules.length < 2) return
    const tags = new Set(rules.map(({ key }) => hashTag(this.#keys.limited(scope.tenant, key))))
    if (tags.size === 1) return
    throw new DomainError(
      "UNSUPPORTED_BY_ENGINE",
      'limits in one call on a cluster need one key, or keys with the same word in braces, as in "{user-7}:calls"; check the others by calls of their own',
      { metadata: { engine: "redis", capability: "limits of different keys in one call" } },
    )
  }

  /** The server frees windows by itself once they are over. */
  async sweep(): Promise<number> {
    if (this.#closed) throw storeClosed()
    return 0
  }

  async close(): Promise<void> {
    this.#closed = true
  }
}
