/** How long single usage events are kept. */
import type { Clock } from "../kernel/clock.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { UsageStore } from "./ports.ts"

/**
 * Takes what is older than `months` whole months before this one, at most `limit` rows or one month, and answers how much that was.
 * 0 months: everything is kept. In the platform's scope.
 */
export async function retireUsage(
  scope: CallScope,
  store: Pick<UsageStore, "retire">,
  clock: Clock,
  months: number,
  limit: number,
): Promise<number> {
  if (months === 0) return 0
  const now = new Date(clock.now())
  return store.retire(scope, Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - months), limit)
}
