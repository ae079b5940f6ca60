/** Steps whose store can tell a repetition. */
import { createHash } from "node:crypto"
import { type CallScope, scopeWith } from "../kernel/scope.ts"
import type { StepContext } from "./runner.ts"

/** The step's own request_id: the store answers a repetition what it answered first. `method` is the RPC behind the saga. */
export function once(scope: CallScope, { opId }: StepContext, method: string): CallScope {
  const bodyHash = createHash("sha256").update(opId).digest()
  return scopeWith(scope, { idempotency: { method, requestId: opId, bodyHash } })
}
