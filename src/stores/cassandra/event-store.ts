/** Event streams in Cassandra or ScyllaDB. */
import type { Appended } from "../../domain/event/event-model.ts"
import type { EventStore } from "../../domain/event/event-store.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import { createGroupCommit } from "../group-commit.ts"
import type { Cluster } from "./database.ts"
import { APPEND, Appender, type AppendItem } from "./event-append.ts"
import { type FeedDeps, feedChanges, feedEnd, readFeed } from "./event-feed.ts"
import { FeedLog } from "./event-feed-log.ts"
import { EventIds } from "./event-ids.ts"
import { readPatches, readStream, revisionAt } from "./event-read.ts"
import { EventRows } from "./event-rows.ts"
import { Snapshots } from "./event-snapshots.ts"
import { deleteStream, listStreams, type StreamDeps, saveSnapshot, truncateStream } from "./event-streams.ts"
import { sweepStreams } from "./event-sweep.ts"
import { BUCKET_EVENTS, Buckets, infoOf, MAX_BATCH_EVENTS, Tips } from "./event-tip.ts"
import { Requests } from "./requests.ts"
import { StreamNames } from "./stream-names.ts"

/** How {@link createCassandraEventStore} works. */
export interface CassandraEventStoreOptions {
  readonly clock: Clock
  /** Events in a bucket. The same for all daemons and for ever, so only tests say it. */
  readonly bucketEvents?: number | undefined
  /** After how long a writer that has not done what it was about to do is taken for dead, in milliseconds. Default 10 s. */
  readonly abandonedMs?: number | undefined
}

/** Streams that may be written at once. */
const CONCURRENCY = 256
const GROUP_ITEMS = 128
const GROUP_BYTES = 1_572_864
const ABANDONED_MS = 10_000

/** An {@link EventStore} over a keyspace. */
export function createCassandraEventStore(cluster: Cluster, options: CassandraEventStoreOptions): EventStore {
  const now = () => options.clock.now()
  const tips = new Tips(cluster, new Buckets(options.bucketEvents ?? BUCKET_EVENTS))
  const rows = new EventRows(cluster, tips.buckets)
  const names = new StreamNames(cluster)
  const feed = new FeedLog(cluster)
  const snapshots = new Snapshots(cluster, tips)
  const requests = new Requests(cluster)
  const streams: StreamDeps = { cluster, tips, names, snapshots, now }
  const abandonedMs = options.abandonedMs ?? ABANDONED_MS
  const feeds: FeedDeps = { cluster, tips, rows, feed, abandonedMs, now }
  const appends = appendGroups(
    new Appender({ cluster, tips, rows, ids: new EventIds(cluster, rows), names, feed, now }),
  )
  return {
    append: (scope, batch) =>
      requests.guard(scope, APPEND, () => appends.add(scope, { batch, idempotency: scope.idempotency })),
    getStream: async (scope, stream) => {
      const info = infoOf(await tips.load(scope, stream))
      if (info === undefined) throw notFound("stream", stream)
      return info
    },
    listStreams: (scope, query, page) => listStreams(streams, scope, query, page),
    readStream: (scope, read) => readStream(tips, rows, scope, read),
    readFeed: (scope, read) => readFeed(feeds, scope, read),
    feedEnd: (scope) => feedEnd(feeds, scope),
    feedChanges: (scope, after, limit) => feedChanges(feeds, scope, after, limit),
    revisionAt: (scope, stream, atMs) => revisionAt(tips, rows, scope, stream, atMs),
    readPatches: (scope, stream, after, upTo, limit) =>
      readPatches(tips, rows, scope, { stream, after, upTo, limit }),
    findSnapshot: (scope, stream, projection, atOrBefore) =>
      snapshots.find(scope, stream, projection, atOrBefore),
    saveSnapshot: (scope, draft) =>
      requests.once(scope, "saveSnapshot", () => saveSnapshot(streams, scope, draft)),
    truncateStream: (scope, stream, before, state) =>
      requests.once(scope, "truncateStream", () => truncateStream(streams, scope, { stream, before, state })),
    deleteStream: (scope, stream, ifRevision) =>
      requests.once(scope, "deleteStream", () => deleteStream(streams, scope, stream, ifRevision)),
    sweep: (scope, limit) => sweepStreams({ cluster, tips, snapshots }, scope, limit),
  }
}

/** Groups of appends to one stream, of no more events than a batch may have. */
function appendGroups(appender: Appender) {
  return createGroupCommit<AppendItem, Appended>({
    key: (scope, { batch }) => `${scope.tenant}/${batch.stream}`,
    maxItems: GROUP_ITEMS,
    maxBytes: GROUP_BYTES,
    bytes: ({ batch }) =>
      batch.events.reduce((sum, { size }) => sum + Math.max(size, GROUP_BYTES / MAX_BATCH_EVENTS), 0),
    concurrency: CONCURRENCY,
    run: (scope, items) => appender.run(scope, items),
  })
}
