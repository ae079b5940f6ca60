/** The event log: a store of streams, and what a store cannot do: waking followers, folding states. */
import { DomainError, invalidField, type Reason } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { type Logger, silentLogger } from "../kernel/logger.ts"
import type { CallScope } from "../kernel/scope.ts"
import { encodeJson } from "./event-json.ts"
import type { Append, Appended, Snapshot, StreamInfo } from "./event-model.ts"
import { type EventSignalOptions, EventSignals } from "./event-signals.ts"
import type { EventStore } from "./event-store.ts"
import { type FollowFrame, type Following, followEvents } from "./follow-events.ts"
import { checkStateSize, type StatePoint, type StreamState, StreamStates } from "./stream-state.ts"

/** How {@link EventLog} works. */
export interface EventLogOptions extends EventSignalOptions {
  readonly logger?: Logger | undefined
  /** After how much quiet followers get a heartbeat, in milliseconds. Default: 15,000. */
  readonly heartbeatMs?: number | undefined
  /** How long a follower may leave a frame untaken, in milliseconds. Default: 30,000. */
  readonly stallMs?: number | undefined
  /** After how many patches a folded state is kept as a snapshot. Default: 200. */
  readonly snapshotEvery?: number | undefined
}

/** One per daemon. Everything that has no rule beyond the store's is on `store`. */
export class EventLog {
  /** The streams themselves. */
  readonly store: EventStore
  /** States of streams. */
  readonly states: StreamStates
  readonly #signals: EventSignals
  readonly #times: { readonly heartbeatMs: number; readonly stallMs: number }

  constructor(store: EventStore, options: EventLogOptions = {}) {
    const logger = options.logger ?? silentLogger
    this.store = store
    this.states = new StreamStates(store, logger, options.snapshotEvery)
    this.#signals = new EventSignals(store, logger, options)
    this.#times = { heartbeatMs: options.heartbeatMs ?? 15_000, stallMs: options.stallMs ?? 30_000 }
  }

  /** Calls that follow now. */
  get followers(): number {
    return this.#signals.size
  }

  /** {@link EventStore.append}; wakes who follows. */
  async append(scope: CallScope, batch: Append): Promise<Appended> {
    const appended = await this.store.append(scope, batch)
    if (!appended.repeated) this.#signals.appended(scope.tenant, batch.stream)
    return appended
  }

  /** See {@link followEvents}. */
  follow(
    scope: CallScope,
    following: Following,
    token: (cursor: readonly string[]) => string,
  ): AsyncGenerator<FollowFrame> {
    const deps = { store: this.store, signals: this.#signals, ...this.#times }
    return followEvents(deps, scope, following, token)
  }

  /**
   * Keeps a state: with a projection the caller's, without one the folded one. `revision` 0 is the last event's. Throws
   * INVALID_FIELD where a state is given without a projection or the other way round, LIMIT_EXCEEDED where it is larger than
   * MAX_STATE_BYTES, and what {@link EventStore.saveSnapshot} and {@link StreamStates.at} throw.
   */
  async saveSnapshot(
    scope: CallScope,
    wanted: { readonly stream: string; readonly projection: string; readonly revision: bigint },
    state: JsonObject | undefined,
  ): Promise<Snapshot> {
    const { stream, projection } = wanted
    if (projection === "" && state !== undefined) {
      throw invalidField("state", "must be given only with a projection; the stream's own state is folded")
    }
    const revision = wanted.revision > 0n ? wanted.revision : undefined
    if (projection !== "") {
      if (state === undefined) throw invalidField("state", "is required with a projection")
      // Its JSON may be larger than its message where it is full of escapes; the request had room for it.
      const text = encodeJson(state, "state", Number.MAX_SAFE_INTEGER)
      checkStateSize(state)
      return this.store.saveSnapshot(scope, { stream, projection, revision, state: text })
    }
    const point: StatePoint = revision === undefined ? { kind: "head" } : { kind: "revision", revision }
    const folded = await this.#foldedOrRefused(scope, stream, point)
    return this.store.saveSnapshot(scope, {
      stream,
      projection,
      revision: folded?.revision ?? revision,
      state: folded === undefined ? undefined : JSON.stringify(folded.state),
    })
  }

  /**
   * {@link EventStore.truncateStream}, with the state just before the cut kept. A deleted stream is STREAM_DELETED; `before`
   * past the last event + 1 is FAILED_PRECONDITION.
   */
  async truncate(scope: CallScope, stream: string, before: bigint): Promise<StreamInfo> {
    const folded = await this.#foldedOrRefused(scope, stream, { kind: "revision", revision: before - 1n })
    return this.store.truncateStream(scope, stream, before, folded && JSON.stringify(folded.state))
  }

  /** Undefined where the store will refuse for the same reason, or has answered this very request before. */
  async #foldedOrRefused(
    scope: CallScope,
    stream: string,
    point: StatePoint,
  ): Promise<StreamState | undefined> {
    try {
      return await this.states.at(scope, stream, point)
    } catch (error) {
      if (error instanceof DomainError && REFUSALS.has(error.reason)) return undefined
      throw error
    }
  }
}

const REFUSALS: ReadonlySet<Reason> = new Set(["NOT_FOUND", "STREAM_DELETED", "FAILED_PRECONDITION"])
