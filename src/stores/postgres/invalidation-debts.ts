/** Cache invalidations that are owed for changes in other databases than the outbox's. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import { cacheInvalidation, EVERY_NAMESPACE } from "../../domain/outbox/cache-relay.ts"
import type { Database } from "./database.ts"
import { appendOutbox } from "./outbox-append.ts"

/** Owes the scope's tenant that every key with one of the tags is absent. Doing that twice does no harm. */
export async function oweInvalidation(
  database: Database,
  scope: CallScope,
  tags: readonly string[],
): Promise<void> {
  await database.transaction(scope, async (tx) =>
    appendOutbox(tx, [cacheInvalidation(scope.tenant, EVERY_NAMESPACE, tags)]),
  )
}
