/** Reads that are longer than one page. */
import type { CallScope } from "../kernel/scope.ts"
import type { FeedCursor } from "./event-model.ts"
import {
  type EventStore,
  type FeedPage,
  type FeedRead,
  MAX_READ_EVENTS,
  type StreamPage,
} from "./event-store.ts"

/** A whole read of a stream. */
export interface StreamRange {
  readonly stream: string
  readonly backwards: boolean
  /** Inclusive; 0: from the first event, or backwards from the last. */
  readonly from: bigint
  /** Most events; 0: all. */
  readonly limit: bigint
  /** Only events recorded at or before, milliseconds. */
  readonly untilMs?: number | undefined
}

/** The pages of a read, at least one. It ends where the stream ended when the last page was read. */
export async function* readStreamPages(
  store: EventStore,
  scope: CallScope,
  range: StreamRange,
): AsyncGenerator<StreamPage> {
  const { stream, backwards } = range
  const until = range.untilMs === undefined ? undefined : await store.revisionAt(scope, stream, range.untilMs)
  let from = range.from === 0n && backwards ? undefined : range.from
  if (backwards && until !== undefined && (from === undefined || from > until)) from = until
  let left = range.limit === 0n ? undefined : range.limit
  for (;;) {
    const limit = left !== undefined && left < MAX_READ_EVENTS ? Number(left) : MAX_READ_EVENTS
    const read = { stream, backwards, from, to: backwards ? undefined : until, types: [], limit }
    const page = await store.readStream(scope, read)
    yield page
    if (left !== undefined) left -= BigInt(page.events.length)
    if (!page.more || left === 0n || page.next === undefined) return
    if (!backwards && until !== undefined && page.next > until) return
    from = page.next
  }
}

/** A whole read of the feed. */
export type FeedRange = Omit<FeedRead, "limit"> & {
  /** Most events; 0: all there are now. */
  readonly limit: bigint
}

/** The pages of a read, at least one. */
export async function* readFeedPages(
  store: EventStore,
  scope: CallScope,
  range: FeedRange,
): AsyncGenerator<FeedPage> {
  let left = range.limit === 0n ? undefined : range.limit
  let after: FeedCursor | undefined = range.after
  for (;;) {
    const limit = left !== undefined && left < MAX_READ_EVENTS ? Number(left) : MAX_READ_EVENTS
    const page = await store.readFeed(scope, { ...range, after, limit })
    if (left !== undefined) left -= BigInt(page.events.length)
    // A full answer ends right after its last event, so that the token skips nothing that was not looked at for the caller.
    yield page
    if (!page.more || left === 0n) return
    after = page.end
  }
}
