/** The identity of a usage event's content: what decides between a duplicate and a conflict. */
import { createHash } from "node:crypto"
import { invalidField } from "../kernel/errors.ts"
import type { RecordResult, UsageEvent } from "./model.ts"
import { normalQuantity } from "./quantity.ts"

/** SHA-256 over what the caller sent. An event without a time stays the same when it is sent again later. */
export function usageHash(event: UsageEvent): Buffer {
  const { agentId, userId, sessionId } = event.subject
  const dimensions = Object.entries(event.dimensions).sort(([a], [b]) => (a < b ? -1 : 1))
  const content = [
    event.meter,
    normalQuantity(event.quantity),
    event.eventTime ?? null,
    agentId,
    userId,
    sessionId,
    dimensions,
  ]
  return createHash("sha256").update(JSON.stringify(content)).digest()
}

/** What a batch comes to. */
export interface BatchPlan extends RecordResult {
  /** The events to insert, with their hashes. */
  readonly fresh: ReadonlyMap<string, { readonly event: UsageEvent; readonly hash: Buffer }>
}

/**
 * Sorts a batch into new events and duplicates, given the content of ids that are known.
 * Throws INVALID_FIELD for an id whose content is another; nothing of the batch may then be recorded.
 */
export function planBatch(
  events: readonly UsageEvent[],
  known: (eventId: string) => Uint8Array | undefined,
): BatchPlan {
  const fresh = new Map<string, { event: UsageEvent; hash: Buffer }>()
  let duplicates = 0
  for (const [at, event] of events.entries()) {
    const hash = usageHash(event)
    const before = fresh.get(event.eventId)?.hash ?? known(event.eventId)
    if (before === undefined) fresh.set(event.eventId, { event, hash })
    else if (hash.equals(before)) duplicates++
    else {
      throw invalidField(
        `events[${at}].event_id`,
        "was recorded with other content; a new event needs a new id",
      )
    }
  }
  return { fresh, recorded: fresh.size, duplicates }
}
