/** A stream's state at a revision or a time: the fold of its events' patches from the nearest snapshot. */
import { DomainError, limitExceeded } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { structBytes } from "../kernel/json-size.ts"
import type { Logger } from "../kernel/logger.ts"
import { type CallScope, systemScope } from "../kernel/scope.ts"
import { streamDeleted } from "./decide-append.ts"
import { decodeJson, mergePatch } from "./event-json.ts"
import { MAX_STATE_BYTES, type StreamInfo } from "./event-model.ts"
import type { EventStore, SnapshotDraft } from "./event-store.ts"

/** After which event. */
export type StatePoint =
  | { readonly kind: "head" }
  | { readonly kind: "revision"; readonly revision: bigint }
  | { readonly kind: "time"; readonly ms: number }

/** A state and where it comes from. */
export interface StreamState {
  readonly state: JsonObject
  /** Revision of the last event that it includes; 0 for none. */
  readonly revision: bigint
  /** Revision of the snapshot that the fold began with; 0 for none. */
  readonly snapshotRevision: bigint
}

const PAGE = 500
/** How often a fold is begun again because the stream was truncated meanwhile. */
const ATTEMPTS = 5
const MAX_SNAPSHOTS_UNDER_WAY = 4
/** How many times its JSON a document can be on the wire: `0,` has 2 bytes and becomes 11. */
const MAX_WIRE_GROWTH = 6

/** Folds states, and keeps a snapshot in the background where a fold was long. */
export class StreamStates {
  readonly #store: EventStore
  readonly #logger: Logger
  readonly #snapshotEvery: number
  readonly #underWay = new Map<string, Promise<void>>()

  /** @param snapshotEvery after how many patches a state is kept. */
  constructor(store: EventStore, logger: Logger, snapshotEvery = 200) {
    this.#store = store
    this.#logger = logger
    this.#snapshotEvery = snapshotEvery
  }

  /**
   * The state. Throws NOT_FOUND, STREAM_DELETED, FAILED_PRECONDITION where the point is past the last event or before the last
   * truncation, LIMIT_EXCEEDED where the state is larger than {@link MAX_STATE_BYTES}.
   */
  async at(scope: CallScope, stream: string, point: StatePoint): Promise<StreamState> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const info = await this.#store.getStream(scope, stream)
      if (info.deletedMs !== undefined) throw streamDeleted(stream)
      const revision = await this.#revision(scope, info, point)
      const state = await this.#fold(scope, stream, revision, info.first)
      if (state !== undefined) return state
    }
    throw new DomainError("OVERLOADED", `stream "${stream}" is truncated faster than it can be read`, {
      metadata: { resource: "stream", name: stream },
      retryDelayMs: 100,
    })
  }

  /** Resolves when no snapshot is being saved. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay.values())
  }

  async #revision(scope: CallScope, info: StreamInfo, point: StatePoint): Promise<bigint> {
    if (point.kind === "head") return info.head
    if (point.kind === "revision") {
      if (point.revision > info.head)
        throw outside(info, `lies past the last event, which has revision ${info.head}`)
      if (point.revision < info.first - 1n) throw truncated(info)
      return point.revision
    }
    const revision = await this.#store.revisionAt(scope, info.stream, point.ms)
    // Below the first readable event nothing is known about times.
    if (revision < info.first && info.first > 1n && revision < info.head) throw truncated(info)
    return revision
  }

  /** Undefined where the stream was truncated under our feet. */
  async #fold(
    scope: CallScope,
    stream: string,
    revision: bigint,
    first: bigint,
  ): Promise<StreamState | undefined> {
    const snapshot = revision === 0n ? undefined : await this.#store.findSnapshot(scope, stream, "", revision)
    const snapshotRevision = snapshot?.revision ?? 0n
    if (snapshotRevision < first - 1n) return undefined
    const state = snapshot === undefined ? {} : decodeJson(snapshot.state)
    let bytes = snapshot === undefined ? 0 : Buffer.byteLength(snapshot.state)
    let folded = 0
    for (let after: bigint | undefined = snapshotRevision; after !== undefined && after < revision; ) {
      const page = await this.#store.readPatches(scope, stream, after, revision, PAGE)
      if (page.first > snapshotRevision + 1n) return undefined
      for (const { patch } of page.patches) {
        mergePatch(state, decodeJson(patch))
        bytes += Buffer.byteLength(patch)
      }
      folded += page.patches.length
      after = page.next
    }
    // What was merged is an upper bound of what is left, in JSON; encoded it may be several times as much.
    if (bytes * MAX_WIRE_GROWTH > MAX_STATE_BYTES) checkStateSize(state)
    if (folded >= this.#snapshotEvery)
      this.#keep(scope, { stream, projection: "", revision, state: JSON.stringify(state) })
    return { state, revision, snapshotRevision }
  }

  #keep(scope: CallScope, snapshot: SnapshotDraft): void {
    const key = `${scope.tenant}/${snapshot.stream}`
    if (this.#underWay.has(key) || this.#underWay.size >= MAX_SNAPSHOTS_UNDER_WAY) return
    const saving = this.#store
      .saveSnapshot(systemScope(scope.tenant), snapshot)
      .then(
        () => {},
        (err: unknown) => {
          // A stream that is deleted or truncated meanwhile needs no snapshot; anything else only costs the next reader time.
          this.#logger.warn({ err }, "a snapshot of a stream's state could not be kept")
        },
      )
      .finally(() => this.#underWay.delete(key))
    this.#underWay.set(key, saving)
  }
}

/** Throws LIMIT_EXCEEDED where a state is too large for an answer. */
export function checkStateSize(state: JsonObject): void {
  const bytes = structBytes(state)
  if (bytes > MAX_STATE_BYTES) throw limitExceeded("state", bytes, MAX_STATE_BYTES)
}

function truncated(info: StreamInfo): DomainError {
  return outside(info, `lies before revision ${info.first - 1n}, where it was truncated`)
}

function outside({ stream, head, first }: StreamInfo, what: string): DomainError {
  return new DomainError("FAILED_PRECONDITION", `the wanted point of stream "${stream}" ${what}`, {
    metadata: { resource: "stream", name: stream, state: `revisions ${first - 1n} to ${head}` },
  })
}
