/** Event streams in PostgreSQL. */
import type { Appended } from "../../domain/event/event-model.ts"
import type { EventStore } from "../../domain/event/event-store.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import { createGroupCommit, type GroupCommit } from "../group-commit.ts"
import type { Database } from "./database.ts"
import { type AppendItem, appendGroup } from "./event-append.ts"
import { feedChanges, feedEnd, readFeed, readStream, streamStatement } from "./event-read.ts"
import { type StreamRow, streamOf } from "./event-rows.ts"
import { findSnapshot, readPatches } from "./event-snapshots.ts"
import { deleteStream, listStreams, saveSnapshot, sweepStreams, truncateStream } from "./event-streams.ts"

/** How {@link createPostgresEventStore} works. */
export interface PostgresEventStoreOptions {
  readonly clock: Clock
  /** Transactions of appends that may be under way at once, each of another tenant. One for an engine with one connection. */
  readonly concurrency: number
}

const GROUP_ITEMS = 256
const GROUP_BYTES = 4 * 1_048_576
/** Groups of one tenant at once, so that the daemon and a server of several processors need not wait for each other. */
const PARALLEL_GROUPS = 2

/** An {@link EventStore} over `database`. Its appends end with the database. */
export function createPostgresEventStore(database: Database, options: PostgresEventStoreOptions): EventStore {
  const { clock } = options
  const appends = appendGroups(database, options)
  return {
    append: (scope, batch) => appends.add(scope, { batch, idempotency: scope.idempotency }),
    getStream: async (scope, stream) => {
      const { rows } = await database.query<StreamRow>(scope, streamStatement(scope.tenant, stream))
      const [row] = rows
      if (row === undefined) throw notFound("stream", stream)
      return streamOf(row)
    },
    listStreams: (scope, query, page) => listStreams(database, scope, query, page),
    readStream: (scope, read) => readStream(database, scope, read),
    readFeed: (scope, read) => readFeed(database, scope, read),
    feedEnd: (scope) => feedEnd(database, scope),
    feedChanges: (scope, after, limit) => feedChanges(database, scope, after, limit),
    revisionAt: async (scope, stream, atMs) => {
      const { rows } = await database.query<{ revision: bigint | null }>(scope, {
        name: "event_revision_at",
        text: "select keelplane.stream_revision_at($1, $2, $3) as revision",
        values: [scope.tenant, stream, new Date(atMs)],
      })
      return rows[0]?.revision ?? 0n
    },
    readPatches: (scope, stream, after, upTo, limit) =>
      readPatches(database, scope, stream, after, upTo, limit),
    findSnapshot: (scope, stream, projection, atOrBefore) =>
      findSnapshot(database, scope, stream, projection, atOrBefore),
    saveSnapshot: (scope, snapshot) => saveSnapshot(database, scope, snapshot, clock.now()),
    truncateStream: (scope, stream, before, state) =>
      truncateStream(database, scope, { stream, before, state }, clock.now()),
    deleteStream: (scope, stream, ifRevision) =>
      deleteStream(database, scope, stream, ifRevision, clock.now()),
    sweep: (scope, limit) => sweepStreams(database, scope, limit),
  }
}

function appendGroups(
  database: Database,
  { clock, concurrency }: PostgresEventStoreOptions,
): GroupCommit<AppendItem, Appended> {
  return createGroupCommit<AppendItem, Appended>({
    key: (scope) => scope.tenant,
    maxItems: GROUP_ITEMS,
    maxBytes: GROUP_BYTES,
    bytes: ({ batch }) => batch.events.reduce((sum, { size }) => sum + size, 0),
    concurrency,
    perKey: PARALLEL_GROUPS,
    lane: ({ batch }) => batch.stream,
    run: (scope, items) => appendGroup(database, scope, items, clock.now()),
  })
}
