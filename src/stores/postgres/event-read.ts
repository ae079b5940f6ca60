/** Reads of streams and of the feed. */
import { streamDeleted } from "../../domain/event/decide-append.ts"
import type { FeedCursor } from "../../domain/event/event-model.ts"
import {
  type FeedChanges,
  type FeedPage,
  type FeedRead,
  MAX_READ_BYTES,
  type StreamPage,
  type StreamRead,
} from "../../domain/event/event-store.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Statement } from "./database.ts"
import {
  EVENT_COLUMNS,
  type EventRow,
  eventOf,
  STREAM_COLUMNS,
  type StreamRow,
  streamOf,
} from "./event-rows.ts"

/** The statement behind every look at one stream. */
export function streamStatement(tenant: string, stream: string): Statement {
  return {
    name: "event_stream",
    text: `select ${STREAM_COLUMNS} from streams s where s.tenant = $1 and s.stream = $2`,
    values: [tenant, stream],
  }
}

/** See EventStore.readStream. */
export async function readStream(
  database: Database,
  scope: CallScope,
  read: StreamRead,
): Promise<StreamPage> {
  const [streams, events] = await database.pipeline(scope, [
    streamStatement(scope.tenant, read.stream),
    read.backwards ? backwards(scope, read) : forwards(scope, read),
  ])
  // The columns are those of the statements.
  const [row] = (streams?.rows ?? []) as unknown as StreamRow[]
  const rows = (events?.rows ?? []) as unknown as (EventRow & { found: bigint })[]
  if (row === undefined) throw notFound("stream", read.stream)
  const stored = streamOf(row)
  if (stored.deletedMs !== undefined) throw streamDeleted(read.stream)
  const last = rows.at(-1)?.revision
  // Events may have come between the two statements.
  const info =
    !read.backwards && last !== undefined && last > stored.head ? { ...stored, head: last } : stored
  const full = rows.length === read.limit || BigInt(rows.length) < (rows[0]?.found ?? 0n)
  if (read.backwards) {
    const more = full && last !== undefined && last > info.first
    return { info, events: rows.map(eventOf), next: more ? last - 1n : undefined, more }
  }
  const end = info.head + 1n
  const next = full && last !== undefined ? last + 1n : end
  return { info, events: rows.map(eventOf), next, more: next < end }
}

function forwards(scope: CallScope, read: StreamRead): Statement {
  return {
    name: "event_read_forwards",
    text: pageText("e.revision >= $3 and e.revision <= $6", "asc"),
    values: [
      scope.tenant,
      read.stream,
      read.from ?? 1n,
      read.limit,
      read.types,
      read.to ?? MAX_BIGINT,
      MAX_READ_BYTES,
    ],
  }
}

function backwards(scope: CallScope, read: StreamRead): Statement {
  return {
    name: "event_read_backwards",
    text: pageText("e.revision <= $3 and e.revision >= $6", "desc"),
    values: [scope.tenant, read.stream, read.from ?? MAX_BIGINT, read.limit, read.types, 0n, MAX_READ_BYTES],
  }
}

const MAX_BIGINT = 9_223_372_036_854_775_807n

function pageText(range: string, direction: "asc" | "desc"): string {
  return `select ${EVENT_COLUMNS}, e.found from (
      select e.*, count(*) over () as found, sum(e.size) over (order by e.revision ${direction}) - e.size as before from (
        select e.* from events e join streams s on s.tenant = e.tenant and s.stream = e.stream
        where e.tenant = $1 and e.stream = $2 and ${range} and e.revision >= s.first_revision
          and (cardinality($5::text[]) = 0 or e.type = any($5::text[]))
        order by e.revision ${direction} limit $4) e) e
    where e.before < $7 order by e.revision ${direction}`
}

const CURSOR = "feed"
const DIGITS = /^[0-9]{1,20}$/

function cursorOf(txid: string, position: bigint | string): FeedCursor {
  return [CURSOR, txid, String(position)]
}

/** The two numbers of a cursor; INVALID_RESUME_TOKEN where it was not made here. */
function placeOf(cursor: FeedCursor | undefined): readonly [string, string] {
  if (cursor === undefined) return ["0", "0"]
  const [kind, txid, position, ...rest] = cursor
  const fits = kind === CURSOR && rest.length === 0
  if (!fits || txid === undefined || position === undefined || !DIGITS.test(txid) || !DIGITS.test(position)) {
    throw new DomainError(
      "INVALID_RESUME_TOKEN",
      "the resume token is of another store; start without a token",
    )
  }
  return [txid, position]
}

/** How many events one read looks at when it leaves most of them out. */
const SCAN = 4_096

interface FeedRow extends EventRow {
  readonly scanned: bigint
  readonly end_txid: string | null
  readonly end_position: bigint | null
  readonly found: bigint | null
  readonly ord: bigint
  readonly txid: string
  readonly position: bigint
}

/** See EventStore.readFeed. */
export async function readFeed(database: Database, scope: CallScope, read: FeedRead): Promise<FeedPage> {
  const picky = read.types.length > 0 || read.fromMs !== undefined || read.toMs !== undefined
  const scan = picky ? SCAN : read.limit
  const { rows } = await database.query<FeedRow>(scope, feedStatement(scope, read, scan))
  const [first] = rows
  if (first === undefined || first.end_txid === null || first.end_position === null) {
    return { events: [], end: read.after ?? cursorOf("0", 0n), skipped: 0, more: false }
  }
  const found = first.found === null ? [] : rows
  const events = found.map((row) => ({ event: eventOf(row), cursor: cursorOf(row.txid, row.position) }))
  const last = found.at(-1)
  if (last !== undefined && BigInt(found.length) < (first.found ?? 0n)) {
    return { events, end: cursorOf(last.txid, last.position), skipped: 0, more: true }
  }
  return {
    events,
    end: cursorOf(first.end_txid, first.end_position),
    skipped: Number(first.scanned - (last?.ord ?? 0n)),
    more: first.scanned === BigInt(scan),
  }
}

// The limits of 1 keep a planner without statistics from reading whole tables to join them.
function feedStatement(scope: CallScope, read: FeedRead, scan: number): Statement {
  const [txid, position] = placeOf(read.after)
  return {
    name: "event_feed",
    text: `with scanned as materialized (
        select f.*, f.ordinality as ord
        from keelplane.feed_scan($1, $2::xid8, $3::bigint, $10, $4) with ordinality f),
      matched as (
        select c.*, count(*) over () as found, row_number() over (order by c.ord) as nr,
          sum(c.size) over (order by c.ord) - c.size as before
        from scanned c join lateral (
          select s.first_revision from streams s where s.tenant = $1 and s.stream = c.stream limit 1
        ) s on c.revision >= s.first_revision
        where (cardinality($6::text[]) = 0 or c.type = any($6::text[]))
          and ($7::timestamptz is null or c.recorded_at >= $7) and ($8::timestamptz is null or c.recorded_at < $8))
      select l.scanned, l.end_txid, l.end_position, m.found, m.ord, m.txid::text as txid, m.position, ${EVENT_COLUMNS}
      from (select (select count(*) from scanned) as scanned, z.txid::text as end_txid, z.position as end_position
        from (select 1) one left join (select txid, position from scanned order by ord desc limit 1) z on true) l
      left join matched m on m.nr <= $5 and m.before < $9
      left join lateral (
        select e.* from events e where e.tenant = $1 and e.stream = m.stream and e.revision = m.revision limit 1
      ) e on true
      order by m.nr`,
    values: [
      scope.tenant,
      txid,
      position,
      scan,
      read.limit,
      read.types,
      dateOf(read.fromMs),
      dateOf(read.toMs),
      MAX_READ_BYTES,
      read.category ?? null,
    ],
  }
}

function dateOf(ms: number | undefined): Date | null {
  return ms === undefined ? null : new Date(ms)
}

/** See EventStore.feedEnd. */
export async function feedEnd(database: Database, scope: CallScope): Promise<FeedCursor> {
  const { rows } = await database.query<{ txid: string; position: bigint }>(scope, {
    name: "event_feed_end",
    text: "select txid::text as txid, position from keelplane.feed_end($1)",
    values: [scope.tenant],
  })
  const [last] = rows
  return last === undefined ? cursorOf("0", 0n) : cursorOf(last.txid, last.position)
}

/** See EventStore.feedChanges. */
export async function feedChanges(
  database: Database,
  scope: CallScope,
  after: FeedCursor,
  limit: number,
): Promise<FeedChanges> {
  const { rows } = await database.query<{ txid: string; position: bigint; stream: string }>(scope, {
    name: "event_feed_changes",
    text: `select f.txid::text as txid, f.position, f.stream
      from keelplane.feed_scan($1, $2::xid8, $3::bigint, null, $4) with ordinality f order by f.ordinality`,
    values: [scope.tenant, ...placeOf(after), limit],
  })
  const last = rows.at(-1)
  return {
    streams: [...new Set(rows.map(({ stream }) => stream))],
    end: last === undefined ? after : cursorOf(last.txid, last.position),
  }
}
