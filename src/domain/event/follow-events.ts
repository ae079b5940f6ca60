/** Catch up, then live: reads the store by cursor; wake-ups only say when to look again, so no event can slip through. */
import { DomainError } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import { endedScope } from "../kernel/wake-ups.ts"
import type { FeedCursor, StoredEvent } from "./event-model.ts"
import type { EventSignals, EventSource } from "./event-signals.ts"
import { type EventStore, MAX_READ_EVENTS } from "./event-store.ts"

/** Where to begin. */
export type FollowStart =
  | { readonly kind: "beginning" }
  | { readonly kind: "now" }
  /** Only for one stream; inclusive. */
  | { readonly kind: "revision"; readonly revision: bigint }
  /** After the frame that had this cursor. */
  | { readonly kind: "resume"; readonly cursor: readonly string[] }

/** What to follow. */
export interface Following {
  readonly source: EventSource
  /** Only these types; empty: all. */
  readonly types: readonly string[]
  readonly start: FollowStart
}

/** One frame; following again from its cursor goes on after it. */
export type FollowFrame = { readonly cursor: readonly string[] } & (
  | { readonly kind: "event"; readonly event: StoredEvent }
  | { readonly kind: "caught_up" | "fell_behind" | "checkpoint" | "heartbeat" }
)

/** What following needs. */
export interface FollowDeps {
  readonly store: EventStore
  readonly signals: EventSignals
  /** After how much quiet a heartbeat is due, in milliseconds. */
  readonly heartbeatMs: number
  /** How long a consumer may leave a frame untaken, in milliseconds. */
  readonly stallMs: number
}

interface Taken {
  readonly events: readonly { readonly event: StoredEvent; readonly cursor: readonly string[] }[]
  readonly end: readonly string[]
  readonly skipped: number
  readonly more: boolean
}

/** After so many events that were left out a checkpoint is due. */
const CHECKPOINT_EVENTS = 256

/**
 * The frames. Ends only by failing: with CANCELLED or DEADLINE_EXCEEDED when the scope ends, STREAM_DELETED when the followed
 * stream is deleted, SLOW_CONSUMER (with `token` of the last cursor) when a frame is left untaken; INVALID_RESUME_TOKEN.
 * @param token makes the resume token of a cursor.
 */
export async function* followEvents(
  deps: FollowDeps,
  scope: CallScope,
  following: Following,
  token: (cursor: readonly string[]) => string,
): AsyncGenerator<FollowFrame> {
  const listener = deps.signals.listen(scope, following.source)
  const stall = new Stall(deps.stallMs)
  try {
    let cursor = await startOf(deps.store, scope, following)
    let live = false
    let skipped = 0
    const frame = (kind: "caught_up" | "fell_behind" | "checkpoint" | "heartbeat") =>
      stall.watch({ kind, cursor } as const)
    for (;;) {
      const page = await take(deps.store, scope, following, cursor)
      if (live && page.more) {
        live = false
        yield frame("fell_behind")
        stall.check(cursor, token)
      }
      // The page may be megabytes: a stalled consumer must not pin it.
      const events = stall.hold(page.events)
      for (let next = events.shift(); next !== undefined; next = events.shift()) {
        cursor = next.cursor
        yield stall.watch({ kind: "event", event: next.event, cursor })
        stall.check(cursor, token)
      }
      cursor = page.end
      skipped = page.events.length > 0 ? page.skipped : skipped + page.skipped
      if (skipped >= CHECKPOINT_EVENTS) {
        skipped = 0
        yield frame("checkpoint")
        stall.check(cursor, token)
      }
      if (page.more) continue
      if (!live) {
        live = true
        yield frame("caught_up")
        stall.check(cursor, token)
      }
      const end = await listener.wait(deps.heartbeatMs, scope.signal)
      if (end === "aborted") throw endedScope(scope)
      if (end === "elapsed") {
        yield frame("heartbeat")
        stall.check(cursor, token)
      }
    }
  } finally {
    stall.stop()
    listener.close()
  }
}

/** Notices that a frame is not taken. */
class Stall {
  readonly #ms: number
  #timer: NodeJS.Timeout | undefined
  #held: unknown[] = []
  #stalled = false

  constructor(ms: number) {
    this.#ms = ms
  }

  /** Events still to be handed out; emptied on a stall. */
  hold<T>(events: readonly T[]): T[] {
    const held = [...events]
    this.#held = held
    return held
  }

  /** Starts the time in which `frame` has to be taken. */
  watch<F>(frame: F): F {
    if (this.#timer === undefined) {
      this.#timer = setTimeout(() => {
        this.#stalled = true
        this.#held.length = 0
      }, this.#ms)
      this.#timer.unref()
    } else this.#timer.refresh()
    return frame
  }

  check(cursor: readonly string[], token: (cursor: readonly string[]) => string): void {
    if (this.#stalled) throw slowConsumer(token(cursor))
    // Waiting for events is not the consumer's fault.
    if (this.#held.length === 0) this.stop()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

function slowConsumer(resumeToken: string): DomainError {
  return new DomainError(
    "SLOW_CONSUMER",
    "the frames were not taken in time; subscribe again with the resume token",
    { metadata: { resume_token: resumeToken }, retryDelayMs: 1_000 },
  )
}

const STREAM_CURSOR = "stream"

/** After the event before `next`. */
function streamCursor(next: bigint): readonly string[] {
  return [STREAM_CURSOR, String(next)]
}

function nextRevision(cursor: readonly string[]): bigint {
  const [kind, next, ...rest] = cursor
  if (kind !== STREAM_CURSOR || next === undefined || rest.length > 0 || !/^[0-9]{1,19}$/.test(next)) {
    throw new DomainError(
      "INVALID_RESUME_TOKEN",
      "the resume token is of another source; start without a token",
    )
  }
  return BigInt(next)
}

const FEED_START: FeedCursor = []

async function startOf(
  store: EventStore,
  scope: CallScope,
  { source, start }: Following,
): Promise<readonly string[]> {
  if (start.kind === "resume") return start.cursor
  if (source.kind !== "stream") return start.kind === "now" ? await store.feedEnd(scope) : FEED_START
  if (start.kind === "revision") return streamCursor(start.revision > 0n ? start.revision : 1n)
  if (start.kind === "beginning") return streamCursor(1n)
  return streamCursor((await headOf(store, scope, source.stream)) + 1n)
}

async function headOf(store: EventStore, scope: CallScope, stream: string): Promise<bigint> {
  try {
    return (await store.getStream(scope, stream)).head
  } catch (error) {
    if (error instanceof DomainError && error.reason === "NOT_FOUND") return 0n
    throw error
  }
}

async function take(
  store: EventStore,
  scope: CallScope,
  { source, types }: Following,
  cursor: readonly string[],
): Promise<Taken> {
  if (source.kind === "stream") return takeStream(store, scope, source.stream, types, cursor)
  const category = source.kind === "category" ? source.category : undefined
  const after = cursor.length === 0 ? undefined : cursor
  return store.readFeed(scope, { category, types, after, limit: MAX_READ_EVENTS })
}

async function takeStream(
  store: EventStore,
  scope: CallScope,
  stream: string,
  types: readonly string[],
  cursor: readonly string[],
): Promise<Taken> {
  const from = nextRevision(cursor)
  try {
    const read = { stream, backwards: false, from, types, limit: MAX_READ_EVENTS }
    const page = await store.readStream(scope, read)
    const next = page.next === undefined || page.next < from ? from : page.next
    return {
      events: page.events.map((event) => ({ event, cursor: streamCursor(event.revision + 1n) })),
      end: streamCursor(next),
      skipped: Number(next - ((page.events.at(-1)?.revision ?? from - 1n) + 1n)),
      more: page.more,
    }
  } catch (error) {
    // It may come yet.
    if (error instanceof DomainError && error.reason === "NOT_FOUND") {
      return { events: [], end: cursor, skipped: 0, more: false }
    }
    throw error
  }
}
