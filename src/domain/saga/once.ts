/** Steps whose store can tell a repetition. */
import { createHash } from "node:crypto"
import type { Clock } from "../kernel/clock.ts"
import { type CallScope, scopeWith } from "../kernel/scope.ts"
import type { StepContext } from "./runner.ts"

/** For at least so long a store knows a repetition by its request_id. */
const KNOWN_MS = 23 * 3_600_000

/** Whether a store may have forgotten what it answered to an earlier run of the saga's steps; what is there is then to be looked at. */
export function mayBeForgotten(clock: Clock, { saga }: StepContext): boolean {
  return clock.now() - saga.createdMs >= KNOWN_MS
}

/** The step's own request_id: the store answers a repetition what it answered first. `method` is the RPC behind the saga. */
export function once(scope: CallScope, { opId }: StepContext, method: string): CallScope {
  const bodyHash = createHash("sha256").update(opId).digest()
  return scopeWith(scope, { idempotency: { method, requestId: opId, bodyHash } })
}
