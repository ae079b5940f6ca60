/** Reads of a cache that is away are misses: that is what a cache may always answer, and callers know how to go on from there. */
import { DomainError, type Reason } from "../domain/kernel/errors.ts"
import type { CallScope, Idempotency, TenantId } from "../domain/kernel/scope.ts"
import type { Awaitable, CallContext } from "../rpc/handler.ts"

/** How reads of a cache that is away are answered as misses; undefined: they fail. */
export interface MissPolicy {
  /** Longest wait for the cache, in milliseconds; undefined for one that is always there. */
  readonly afterMs: number | undefined
}

/** Failures of the store, and not of the request. */
const AWAY: ReadonlySet<Reason> = new Set([
  "STORE_UNAVAILABLE",
  "STORE_AUTH",
  "SCHEMA_MISMATCH",
  "OUTCOME_UNKNOWN",
  "OVERLOADED",
])

/** Answers what `read` does, or `miss` where the cache is away. */
export function orMiss<T>(
  policy: MissPolicy | undefined,
  ctx: CallContext,
  read: (scope: CallScope) => Awaitable<T>,
  miss: () => T,
): Awaitable<T> {
  if (policy === undefined) return read(ctx)
  const answer = read(hurried(ctx, policy.afterMs))
  if (!(answer instanceof Promise)) return answer
  return answer.catch((error: unknown) => {
    if (isAway(error, ctx)) return miss()
    throw error
  })
}

function hurried(ctx: CallContext, afterMs: number | undefined): CallScope {
  if (afterMs === undefined) return ctx
  const deadlineMs = Date.now() + afterMs
  return deadlineMs < ctx.deadlineMs ? new HurriedScope(ctx, deadlineMs) : ctx
}

/** The caller's scope with less time. A class, as every read makes one. */
class HurriedScope implements CallScope {
  readonly tenant: TenantId
  readonly deadlineMs: number
  readonly idempotency: Idempotency | undefined
  readonly #caller: CallScope

  constructor(caller: CallScope, deadlineMs: number) {
    this.tenant = caller.tenant
    this.deadlineMs = deadlineMs
    this.idempotency = caller.idempotency
    this.#caller = caller
  }

  get actor(): string {
    return this.#caller.actor
  }

  get signal(): AbortSignal {
    return this.#caller.signal
  }

  get trace(): CallScope["trace"] {
    return this.#caller.trace
  }
}

/** A deadline that was not the caller's own is the cache's fault. */
function isAway(error: unknown, ctx: CallContext): boolean {
  if (!(error instanceof DomainError)) return false
  return AWAY.has(error.reason) || (error.reason === "DEADLINE_EXCEEDED" && !ctx.signal.aborted)
}
