/**
 * Reads of the feed: the entries of the log, and which of them count. A read stops before an entry whose writer may still be at
 * it; one whose writer is long gone is shut out, so that nothing can come to stand before a cursor that was answered.
 */
import { categoryOf, type FeedCursor, type StoredEvent } from "../../domain/event/event-model.ts"
import {
  type FeedChanges,
  type FeedEvent,
  type FeedPage,
  type FeedRead,
  MAX_READ_BYTES,
} from "../../domain/event/event-store.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { isUnknown } from "./errors.ts"
import type { FeedLog, PlacedEntry } from "./event-feed-log.ts"
import type { EventGlance, EventRows } from "./event-rows.ts"
import type { Tip, Tips } from "./event-tip.ts"

/** What the feed is read from. */
export interface FeedDeps {
  readonly cluster: Cluster
  readonly tips: Tips
  readonly rows: EventRows
  readonly feed: FeedLog
  /** After how long a writer that has not done what it entered is shut out, in milliseconds. */
  readonly abandonedMs: number
  now(): number
}

const CURSOR = "feed"
const DIGITS = /^[0-9]{1,18}$/

/** The next entry, and how many of its events were answered. */
interface Place {
  readonly position: bigint
  readonly done: bigint
}

const START: Place = { position: 1n, done: 0n }

function cursorOf({ position, done }: Place): FeedCursor {
  return [CURSOR, String(position), String(done)]
}

/** INVALID_RESUME_TOKEN where a cursor was not made here. */
function placeOf(cursor: FeedCursor | undefined): Place {
  if (cursor === undefined) return START
  const [kind, position, done, ...rest] = cursor
  const fits = kind === CURSOR && rest.length === 0
  if (!fits || position === undefined || done === undefined || !DIGITS.test(position) || !DIGITS.test(done)) {
    throw new DomainError(
      "INVALID_RESUME_TOKEN",
      "the resume token is of another store; start without a token",
    )
  }
  return { position: position === "0" ? 1n : BigInt(position), done: BigInt(done) }
}

/** Entries that are looked at together. */
const CHUNK = 64
/** Entries, and events in them, that one read looks at. */
const MAX_ENTRIES = 1_024
const SCAN = 4_096

/** See EventStore.readFeed. */
export async function readFeed(deps: FeedDeps, scope: CallScope, read: FeedRead): Promise<FeedPage> {
  const page = new PageBuilder(read)
  let place = placeOf(read.after)
  let entries = 0
  for (;;) {
    const chunk = await deps.feed.read(scope, place.position, CHUNK)
    const settled = await settle(deps, scope, chunk)
    for (const { entry, tip, glances } of settled) {
      const from = place.position === entry.position ? place.done : 0n
      const stopped = page.take(entry, tip, glances, from)
      if (stopped !== undefined) return page.finish(deps, scope, stopped, true)
      place = { position: entry.position + 1n, done: 0n }
    }
    entries += settled.length
    if (settled.length < chunk.length || chunk.length < CHUNK) return page.finish(deps, scope, place, false)
    if (entries >= MAX_ENTRIES || page.looked >= SCAN) return page.finish(deps, scope, place, true)
  }
}

interface Chosen {
  readonly stream: string
  readonly glance: EventGlance
  readonly cursor: FeedCursor
}

/** Gathers a page, entry by entry. */
class PageBuilder {
  looked = 0
  readonly #read: FeedRead
  readonly #chosen: Chosen[] = []
  #bytes = 0
  #skipped = 0

  constructor(read: FeedRead) {
    this.#read = read
  }

  /** Takes an entry's events after the first `done`. Answers where the page ends, when it is full. */
  take(entry: PlacedEntry, tip: Tip, glances: readonly EventGlance[], done: bigint): Place | undefined {
    const { category, limit } = this.#read
    if (category !== undefined && categoryOf(entry.stream) !== category) return undefined
    for (const glance of glances) {
      const offset = glance.revision - entry.first
      if (offset < done || glance.revision < tip.first) continue
      if (this.#chosen.length === limit || (this.#chosen.length > 0 && this.#bytes >= MAX_READ_BYTES))
        return { position: entry.position, done: offset }
      this.looked++
      if (!this.#matches(glance)) {
        this.#skipped++
        continue
      }
      this.#skipped = 0
      this.#bytes += glance.size
      const cursor = cursorOf({ position: entry.position, done: offset + 1n })
      this.#chosen.push({ stream: entry.stream, glance, cursor })
    }
    return undefined
  }

  #matches({ type, recordedMs }: EventGlance): boolean {
    const { types, fromMs, toMs } = this.#read
    return (
      (types.length === 0 || types.includes(type)) &&
      (fromMs === undefined || recordedMs >= fromMs) &&
      (toMs === undefined || recordedMs < toMs)
    )
  }

  async finish(deps: FeedDeps, scope: CallScope, end: Place, more: boolean): Promise<FeedPage> {
    const byStream = Map.groupBy(this.#chosen, ({ stream }) => stream)
    const found = new Map<string, ReadonlyMap<bigint, StoredEvent>>()
    await Promise.all(
      [...byStream].map(async ([stream, those]) => {
        found.set(
          stream,
          await deps.rows.pick(
            scope,
            stream,
            those.map(({ glance }) => glance),
          ),
        )
      }),
    )
    const events = this.#chosen.flatMap(({ stream, glance, cursor }): readonly FeedEvent[] => {
      // An event that was hidden and reclaimed meanwhile is left out.
      const event = found.get(stream)?.get(glance.revision)
      return event === undefined ? [] : [{ event, cursor }]
    })
    return { events, end: cursorOf(end), skipped: this.#skipped, more }
  }
}

/** An entry of which is known what became of it: its events, or none where it does not count. */
interface Settled {
  readonly entry: PlacedEntry
  readonly tip: Tip
  readonly glances: readonly EventGlance[]
}

/** The entries up to the first whose writer may still be at it. */
async function settle(
  deps: FeedDeps,
  scope: CallScope,
  entries: readonly PlacedEntry[],
): Promise<readonly Settled[]> {
  const tips = await tipsOf(deps, scope, entries)
  const looks = await Promise.all(entries.map((entry) => glancesOf(deps, scope, entry)))
  const settled: Settled[] = []
  for (const [at, entry] of entries.entries()) {
    const tip = tips.get(entry.stream)
    if (tip === undefined) break
    const rows = looks[at] ?? []
    const own = rows.filter(({ attempt }) => attempt === entry.attempt)
    // Only what can be seen decides: an event in this place of another writer, or that these were hidden since.
    const decided = entry.void || rows.length > 0 || (tip.head >= entry.first && tip.first > entry.first)
    if (!decided && !(await shutOut(deps, scope, entry, tip))) break
    settled.push({ entry, tip, glances: own })
  }
  return settled
}

async function tipsOf(
  deps: FeedDeps,
  scope: CallScope,
  entries: readonly PlacedEntry[],
): Promise<ReadonlyMap<string, Tip>> {
  const streams = [...new Set(entries.map(({ stream }) => stream))]
  return new Map(
    await Promise.all(streams.map(async (stream) => [stream, await deps.tips.load(scope, stream)] as const)),
  )
}

async function glancesOf(
  deps: FeedDeps,
  scope: CallScope,
  { stream, first, events, void: avoided }: PlacedEntry,
): Promise<readonly EventGlance[]> {
  if (avoided) return []
  const range = { stream, from: first, to: first + BigInt(events) - 1n }
  return Array.fromAsync(deps.rows.glances(scope, range, events))
}

/**
 * Whether an entry that does not count yet never will. Its writer would have to find the stream as it was, so one more write
 * to the stream shuts it out; only done where it seems to be gone.
 */
async function shutOut(deps: FeedDeps, scope: CallScope, entry: PlacedEntry, tip: Tip): Promise<boolean> {
  if (tip.head >= entry.first || Date.now() - entry.enteredMs < deps.abandonedMs) return false
  try {
    await deps.tips.announce(scope, tip)
    const { applied } = await deps.tips.write(scope, tip, {}, [], deps.now())
    if (!applied) return false
    await deps.feed.avoid(scope, entry)
    return true
  } catch (error) {
    // Nothing was asked for but a read, which ends before this entry; the next one finds out what came of it.
    if (isUnknown(error)) return false
    throw error
  }
}

/** See EventStore.feedEnd. */
export async function feedEnd(deps: FeedDeps, scope: CallScope): Promise<FeedCursor> {
  const [known] = await deps.cluster.read<{ position: bigint }>(scope, {
    cql: "select position from feed_settled where tenant = ?",
    values: [scope.tenant],
  })
  const start = known?.position ?? 0n
  let end = start
  for (;;) {
    const chunk = await deps.feed.read(scope, end + 1n, CHUNK)
    const settled = await settledPrefix(deps, scope, chunk)
    end += BigInt(settled.length)
    if (settled.length < chunk.length || chunk.length < CHUNK) break
  }
  if (end - start >= BigInt(CHUNK)) {
    await deps.cluster.write(scope, {
      cql: "insert into feed_settled (tenant, position) values (?, ?) using timestamp ?",
      values: [scope.tenant, end, end],
    })
  }
  return cursorOf({ position: end + 1n, done: 0n })
}

/** As {@link settle}, where it does not matter which entries count. */
async function settledPrefix(
  deps: FeedDeps,
  scope: CallScope,
  entries: readonly PlacedEntry[],
): Promise<readonly PlacedEntry[]> {
  const tips = await tipsOf(deps, scope, entries)
  const settled: PlacedEntry[] = []
  for (const entry of entries) {
    const tip = tips.get(entry.stream)
    if (tip === undefined) break
    const decided = entry.void || tip.head >= entry.first
    if (!decided && !(await shutOut(deps, scope, entry, tip))) break
    settled.push(entry)
  }
  return settled
}

/** See EventStore.feedChanges. */
export async function feedChanges(
  deps: FeedDeps,
  scope: CallScope,
  after: FeedCursor,
  limit: number,
): Promise<FeedChanges> {
  const { position } = placeOf(after)
  const entries = await deps.feed.read(scope, position, Math.min(limit, MAX_ENTRIES))
  const streams = new Set<string>()
  let events = 0
  let end = placeOf(after)
  for (const entry of await settledPrefix(deps, scope, entries)) {
    streams.add(entry.stream)
    end = { position: entry.position + 1n, done: 0n }
    events += entry.events
    if (events >= limit) break
  }
  return { streams: [...streams], end: cursorOf(end) }
}
