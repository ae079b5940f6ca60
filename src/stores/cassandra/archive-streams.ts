/** Streams, their events and snapshots in Cassandra, as archives read and write them. */
import { randomUUID } from "node:crypto"
import type { Item, ItemOf } from "../../domain/archive/model.ts"
import type { Archive, ItemSink } from "../../domain/archive/ports.ts"
import type { StoredEvent, StreamInfo } from "../../domain/event/event-model.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { Cluster } from "./database.ts"
import { FeedLog, type PlacedEntry } from "./event-feed-log.ts"
import { EventIds } from "./event-ids.ts"
import { type EventGlance, EventRows, insertEvent, type PlacedEvent } from "./event-rows.ts"
import { Snapshots } from "./event-snapshots.ts"
import { BUCKET_EVENTS, Buckets, infoOf, MAX_BATCH_EVENTS, type Tip, Tips } from "./event-tip.ts"
import { StreamNames } from "./stream-names.ts"

const NAMES = 64
/** Feed entries that are read together; each may have a megabyte. */
const ENTRIES = 8
/** Streams that are written at once. */
const STREAMS = 16
const BATCH_BYTES = 1_048_576

/** How {@link createCassandraStreamArchive} works. */
export interface StreamArchiveOptions {
  readonly cluster: Cluster
  /** For tests, as the event store has it. */
  readonly bucketEvents?: number | undefined
}

/** The archive of streams over a keyspace. */
export function createCassandraStreamArchive({ cluster, bucketEvents }: StreamArchiveOptions): Archive {
  const tips = new Tips(cluster, new Buckets(bucketEvents ?? BUCKET_EVENTS))
  const rows = new EventRows(cluster, tips.buckets)
  const parts: Parts = {
    cluster,
    tips,
    rows,
    names: new StreamNames(cluster),
    feed: new FeedLog(cluster),
    ids: new EventIds(cluster, rows),
    snapshots: new Snapshots(cluster, tips),
  }
  return {
    plane: "streams",
    engine: "cassandra",
    kinds: ["stream", "event", "snapshot"],
    holds: async (scope) => {
      for await (const _ of streamsOf(parts, scope)) return true
      return false
    },
    unfinished: async () => [],
    read: async (scope, sink) => {
      for await (const infos of streamsOf(parts, scope)) await sink("stream", infos.map(streamItem))
      await readEvents(parts, scope, sink)
      for await (const infos of streamsOf(parts, scope)) await readSnapshots(parts, scope, infos, sink)
    },
    write: async (scope, kind, items) => {
      // The use case hands each kind's items only.
      if (kind === "stream")
        await inTurns(items, (item) => beginStream(parts, scope, item as ItemOf<"stream">))
      else if (kind === "event") await writeEvents(parts, scope, items as readonly ItemOf<"event">[])
      else await inTurns(items, (item) => writeSnapshot(parts, scope, item as ItemOf<"snapshot">))
    },
    finish: async () => [],
  }
}

interface Parts {
  readonly cluster: Cluster
  readonly tips: Tips
  readonly rows: EventRows
  readonly names: StreamNames
  readonly feed: FeedLog
  readonly ids: EventIds
  readonly snapshots: Snapshots
}

async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += STREAMS)
    await Promise.all(items.slice(at, at + STREAMS).map(work))
}

async function* streamsOf({ names, tips }: Parts, scope: CallScope): AsyncGenerator<readonly StreamInfo[]> {
  let after: string | undefined
  for (;;) {
    requireLive(scope)
    const found = await names.list(scope, { after, prefix: "", limit: NAMES })
    const infos = await Promise.all(found.map(async (name) => infoOf(await tips.load(scope, name, true))))
    const known = infos.filter((info) => info !== undefined)
    if (known.length > 0) yield known
    after = found.at(-1)
    if (after === undefined || found.length < NAMES) return
  }
}

function streamItem({ stream, head, first, createdMs, recordedMs, deletedMs }: StreamInfo): ItemOf<"stream"> {
  return { stream, head, first, createTime: createdMs, recordTime: recordedMs, deleteTime: deletedMs ?? null }
}

/** Entries of the feed whose events are there; what was only entered is nothing. */
async function readEvents(parts: Parts, scope: CallScope, sink: ItemSink): Promise<void> {
  const { feed } = parts
  for (let position = 1n; ; ) {
    requireLive(scope)
    const entries = await feed.read(scope, position, ENTRIES)
    const found = await Promise.all(entries.map((entry) => eventsOf(parts, scope, entry)))
    await sink("event", found.flat())
    const last = entries.at(-1)
    if (last === undefined || entries.length < ENTRIES) return
    position = last.position + 1n
  }
}

async function eventsOf(
  { tips, rows }: Parts,
  scope: CallScope,
  entry: PlacedEntry,
): Promise<readonly ItemOf<"event">[]> {
  if (entry.void) return []
  const { stream, first, events, attempt } = entry
  const tip = await tips.load(scope, stream)
  const range = { stream, from: first, to: first + BigInt(events) - 1n }
  const glances = (await Array.fromAsync(rows.glances(scope, range, events))).filter(
    (glance) => glance.attempt === attempt && glance.revision >= tip.first,
  )
  const picked = await rows.pick(scope, stream, glances)
  return glances.flatMap((glance) => {
    const event = picked.get(glance.revision)
    return event === undefined ? [] : [eventItem(event, glance)]
  })
}

function eventItem(event: StoredEvent, { size }: EventGlance): ItemOf<"event"> {
  const { stream, revision, eventId, type, data, contentType, metadata, statePatch } = event
  const { correlationId, causationId, traceParent, occurredMs, recordedMs } = event
  return {
    stream,
    revision,
    eventId,
    type,
    json: data?.kind === "json" ? data.text : null,
    binary: data?.kind === "binary" ? data.bytes : null,
    contentType,
    metadata: metadata ?? null,
    statePatch: statePatch ?? null,
    correlationId,
    causationId,
    traceParent,
    occurTime: occurredMs,
    recordTime: recordedMs,
    size,
  }
}

async function readSnapshots(
  { cluster }: Parts,
  scope: CallScope,
  infos: readonly StreamInfo[],
  sink: ItemSink,
): Promise<void> {
  for (const { stream, first, deletedMs } of infos) {
    if (deletedMs !== undefined) continue
    const projections = await cluster.read<{ projection: string }>(scope, {
      cql: "select projection from snapshot_projections where tenant = ? and stream = ?",
      values: [scope.tenant, stream],
    })
    for (const { projection } of projections) {
      const pages = cluster.pages<{ revision: bigint; state: string; created_ms: bigint }>(
        scope,
        {
          cql: `select revision, state, created_ms from snapshots
            where tenant = ? and stream = ? and projection = ? and revision >= ?`,
          values: [scope.tenant, stream, projection, first - 1n],
        },
        { pageRows: 2 },
      )
      for await (const page of pages) {
        const items: Item[] = page.map(({ revision, state, created_ms }) => ({
          stream,
          projection,
          revision,
          state,
          createTime: Number(created_ms),
        }))
        await sink("snapshot", items)
      }
    }
  }
}

/** A stream whose first events are gone begins where they would have ended; one that has all of them, with its first event. */
async function beginStream(parts: Parts, scope: CallScope, item: ItemOf<"stream">): Promise<void> {
  const { tips, names } = parts
  const { stream, first } = item
  await names.add(scope, stream)
  const head = first - 1n
  if (head === 0n) return
  const begin: Tip = {
    stream,
    head,
    first,
    createdMs: item.createTime,
    recordedMs: item.recordTime,
    deletedMs: item.deleteTime ?? undefined,
    bucket: tips.buckets.after(head),
    epoch: null,
    openedMs: undefined,
  }
  // Where an attempt before has written it, this changes nothing.
  await tips.write(scope, begin, {}, [], item.recordTime)
  await tips.announce(scope, begin)
}

interface Run {
  readonly stream: string
  readonly attempt: string
  readonly placed: readonly PlacedEvent[]
}

/** Takes the places in the feed first, all in their order, then writes stream by stream. */
async function writeEvents(parts: Parts, scope: CallScope, items: readonly ItemOf<"event">[]): Promise<void> {
  const streams = [...new Set(items.map(({ stream }) => stream))]
  const heads = new Map<string, Tip>()
  await inTurns(streams, async (stream) => {
    heads.set(stream, await parts.tips.load(scope, stream, true))
  })
  const runs = runsOf(items.filter(({ stream, revision }) => revision > (heads.get(stream)?.head ?? 0n)))
  await Promise.all(
    runs.map(({ stream, attempt, placed }) =>
      parts.feed.enter(scope, {
        stream,
        first: placed[0]?.revision ?? 0n,
        events: placed.length,
        attempt,
      }),
    ),
  )
  await inTurns([...Map.groupBy(runs, ({ stream }) => stream)], async ([stream, own]) => {
    let tip = heads.get(stream)
    for (const run of own) {
      await parts.ids.announce(scope, stream, run.placed)
      tip = await writeRun(parts, scope, tip, run)
    }
  })
}

/** Consecutive events of one stream, as many as a batch may have. */
function runsOf(items: readonly ItemOf<"event">[]): readonly Run[] {
  const runs: Run[] = []
  let placed: PlacedEvent[] = []
  let bytes = 0
  for (const item of items) {
    const last = runs.at(-1)
    if (
      last?.stream !== item.stream ||
      placed.length === MAX_BATCH_EVENTS ||
      bytes + item.size > BATCH_BYTES
    ) {
      placed = []
      bytes = 0
      runs.push({ stream: item.stream, attempt: randomUUID(), placed })
    }
    placed.push(placedEvent(item))
    bytes += item.size
  }
  return runs
}

async function writeRun(
  { tips }: Parts,
  scope: CallScope,
  tip: Tip | undefined,
  { stream, attempt, placed }: Run,
): Promise<Tip> {
  const first = placed[0]
  const last = placed.at(-1)
  if (tip === undefined || first === undefined || last === undefined) throw new Error("a run has events")
  if (first.revision !== tip.head + 1n) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `the archive has no event ${tip.head + 1n} of stream "${stream}"`,
    )
  }
  const createdMs = tip.head === 0n ? first.recordedMs : tip.createdMs
  const change = { head: last.revision, recordedMs: last.recordedMs, createdMs }
  await tips.announce(scope, { ...tip, createdMs })
  const rows = placed.map((event) => insertEvent(scope.tenant, stream, tip.bucket, attempt, event))
  const { applied } = await tips.write(scope, tip, change, rows, last.recordedMs)
  if (!applied) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `somebody else writes to stream "${stream}"; stop the daemons first`,
    )
  }
  return tips.after(tip, change, last.recordedMs)
}

function placedEvent(item: ItemOf<"event">): PlacedEvent {
  const { revision, recordTime, json, binary, metadata, statePatch, occurTime, ...rest } = item
  const data =
    json !== null
      ? ({ kind: "json", text: json } as const)
      : binary === null
        ? undefined
        : ({ kind: "binary", bytes: binary } as const)
  return {
    revision,
    recordedMs: recordTime,
    event: {
      ...rest,
      // Whoever repeats an append with the id finds the event.
      idGiven: true,
      data,
      metadata: metadata ?? undefined,
      statePatch: statePatch ?? undefined,
      occurredMs: occurTime,
    },
  }
}

function writeSnapshot({ snapshots }: Parts, scope: CallScope, item: ItemOf<"snapshot">): Promise<void> {
  const { stream, projection, revision, state, createTime } = item
  return snapshots.save(scope, { stream, projection, revision, state, createdMs: createTime })
}
