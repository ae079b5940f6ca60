/** The port to the event store. Every method may also reject with the reasons that all stores share (availability, deadline). */
import type { Filter } from "../kernel/filter/index.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Append, Appended, FeedCursor, Snapshot, StoredEvent, StreamInfo } from "./event-model.ts"

/** Most events that one read answers. */
export const MAX_READ_EVENTS = 256
/** About the most bytes that one read answers; one event is always answered. */
export const MAX_READ_BYTES = 2_097_152

/** A part of a stream. */
export interface StreamRead {
  readonly stream: string
  readonly backwards: boolean
  /** First revision to read, inclusive. Undefined: the newest; only backwards. */
  readonly from: bigint | undefined
  /** Last revision to read forwards, inclusive. Undefined: the newest. */
  readonly to?: bigint | undefined
  /** Only these types; empty: all. */
  readonly types: readonly string[]
  /** 1 to {@link MAX_READ_EVENTS}. */
  readonly limit: number
}

/** What a {@link StreamRead} found. */
export interface StreamPage {
  readonly info: StreamInfo
  readonly events: readonly StoredEvent[]
  /**
   * Where to read on in the same direction. Undefined where a backward read has passed the oldest event. Forwards it is the
   * revision after all that was looked at, which may not exist yet.
   */
  readonly next: bigint | undefined
  /** Whether there was more to read when this was. */
  readonly more: boolean
}

/** A part of the feed. Conditions hold together. */
export interface FeedRead {
  /** Undefined: all categories. */
  readonly category?: string | undefined
  /** Only these types; empty: all. */
  readonly types: readonly string[]
  /** Recorded at or after, milliseconds. */
  readonly fromMs?: number | undefined
  /** Recorded before, milliseconds. */
  readonly toMs?: number | undefined
  /** Undefined: from the oldest event. */
  readonly after: FeedCursor | undefined
  /** 1 to {@link MAX_READ_EVENTS}. */
  readonly limit: number
}

/** An event with its place in the feed. */
export interface FeedEvent {
  readonly event: StoredEvent
  readonly cursor: FeedCursor
}

/** What a {@link FeedRead} found. */
export interface FeedPage {
  readonly events: readonly FeedEvent[]
  /** Where to read on: after all that was looked at. */
  readonly end: FeedCursor
  /** How many events were looked at and left out since the last one answered. */
  readonly skipped: number
  /** Whether there may have been more to read when this was. */
  readonly more: boolean
}

/** Which streams got events. */
export interface FeedChanges {
  readonly streams: readonly string[]
  /** Where to look on. */
  readonly end: FeedCursor
}

/** A state patch of an event: text of a JSON object. */
export interface StatePatch {
  readonly revision: bigint
  readonly patch: string
}

/** A state to keep. */
export interface SnapshotDraft {
  readonly stream: string
  readonly projection: string
  /** Undefined: the last event's. */
  readonly revision: bigint | undefined
  /** Undefined where the caller believes that the store will refuse, or has answered this request before. */
  readonly state: string | undefined
}

/** What ListStreams asks for. */
export interface StreamQuery {
  readonly category?: string | undefined
  readonly prefix?: string | undefined
  /** Over {@link STREAM_FILTER_FIELDS}. */
  readonly filter?: Filter | undefined
  readonly showDeleted: boolean
}

/** The fields that a filter over streams may name. */
export const STREAM_FILTER_FIELDS = {
  stream: { type: "string" },
  category: { type: "string" },
  revision: { type: "int" },
  first_revision: { type: "int" },
  create_time: { type: "timestamp" },
  update_time: { type: "timestamp" },
  deleted: { type: "bool" },
} as const

/** Streams, their events and snapshots. Hidden (truncated or deleted) events are seen by nothing. */
export interface EventStore {
  /**
   * Appends a batch, all or nothing, by the rule of decide-append. Honours scope.idempotency. Rejects with REVISION_MISMATCH,
   * STREAM_DELETED, CORRUPTED_IDEMPOTENCY, REQUEST_ID_REUSED.
   */
  append(scope: CallScope, batch: Append): Promise<Appended>

  /** Rejects with NOT_FOUND where the stream has never had an event. A tombstone is answered. */
  getStream(scope: CallScope, stream: string): Promise<StreamInfo>

  /** In byte order of names. The cursor of a page is the last name. */
  listStreams(scope: CallScope, query: StreamQuery, page: PageRequest): Promise<Page<StreamInfo>>

  /** Rejects with NOT_FOUND where the stream has never had an event, STREAM_DELETED where it is deleted. */
  readStream(scope: CallScope, read: StreamRead): Promise<StreamPage>

  /**
   * Reads the feed, oldest first. Promises each stream's order, and that no event can appear before a cursor that was
   * answered. Rejects with INVALID_RESUME_TOKEN where the cursor is not one of this engine.
   */
  readFeed(scope: CallScope, read: FeedRead): Promise<FeedPage>

  /** The cursor after the newest event of the feed. */
  feedEnd(scope: CallScope): Promise<FeedCursor>

  /** The streams of the next `limit` events of the feed. Rejects with INVALID_RESUME_TOKEN as {@link readFeed} does. */
  feedChanges(scope: CallScope, after: FeedCursor, limit: number): Promise<FeedChanges>

  /**
   * The last revision recorded at or before a time; `first - 1` where all readable events are later. 0 where the stream has
   * never had an event.
   */
  revisionAt(scope: CallScope, stream: string, atMs: number): Promise<bigint>

  /**
   * The state patches after a revision up to another, inclusive, in order, at most `limit`, together about
   * {@link MAX_READ_BYTES}. `first` is the oldest readable revision at that moment: where it lies beyond `after + 1`, patches
   * are missing. Fewer than all: `next` is the `after` to go on with.
   */
  readPatches(
    scope: CallScope,
    stream: string,
    after: bigint,
    upTo: bigint,
    limit: number,
  ): Promise<{
    readonly first: bigint
    readonly patches: readonly StatePatch[]
    readonly next: bigint | undefined
  }>

  /**
   * The newest snapshot of a projection at or before a revision; none from before `first - 1`. Rejects with STREAM_DELETED.
   */
  findSnapshot(
    scope: CallScope,
    stream: string,
    projection: string,
    atOrBefore: bigint | undefined,
  ): Promise<Snapshot | undefined>

  /**
   * Keeps a state; the one of the same stream, projection and revision is replaced. Honours scope.idempotency. Rejects with
   * NOT_FOUND where the stream has never had an event, STREAM_DELETED, FAILED_PRECONDITION where the revision is past the head
   * or before `first - 1`, OVERLOADED where a state turns out to be needed and there is none.
   */
  saveSnapshot(scope: CallScope, draft: SnapshotDraft): Promise<Snapshot>

  /**
   * Hides the events below `before`, and keeps `state` as the stream's own snapshot at before - 1. Going back has no effect.
   * Honours scope.idempotency. Rejects with NOT_FOUND, STREAM_DELETED, FAILED_PRECONDITION where `before` is past head + 1,
   * OVERLOADED where a state turns out to be needed and there is none.
   */
  truncateStream(
    scope: CallScope,
    stream: string,
    before: bigint,
    state: string | undefined,
  ): Promise<StreamInfo>

  /**
   * Leaves a tombstone. Deleting again answers the tombstone. Honours scope.idempotency. Rejects with NOT_FOUND where the
   * stream has never had an event, REVISION_MISMATCH where `ifRevision` is given and the stream is not deleted and elsewhere.
   */
  deleteStream(scope: CallScope, stream: string, ifRevision: bigint | undefined): Promise<StreamInfo>

  /**
   * Reclaims up to `limit` hidden events, of all tenants with the platform's scope.
   * @returns how many; fewer than `limit` means that none is left.
   */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** What the methods of {@link EventStore} do. */
export const EVENT_STORE_OPERATIONS: Operations<EventStore> = {
  append: "write",
  saveSnapshot: "write",
  truncateStream: "write",
  deleteStream: "write",
  sweep: "write",
  getStream: "read",
  listStreams: "read",
  readStream: "read",
  readFeed: "read",
  feedEnd: "read",
  feedChanges: "read",
  revisionAt: "read",
  readPatches: "read",
  findSnapshot: "read",
}
