/**
 * Appends of many callers: those that find their streams as they expect them in one statement (./event-append-direct), the others in
 * one transaction that locks, reads heads, decides in order and inserts.
 */
import { decideAppend } from "../../domain/event/decide-append.ts"
import type { Append, Appended, EventDraft } from "../../domain/event/event-model.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Database, Rows, Statement } from "./database.ts"
import { DirectAppends } from "./event-append-direct.ts"
import { lockStreams } from "./event-rows.ts"
import { type GroupItem, type GroupPlan, runGroup } from "./grouped-mutation.ts"

/** One caller's batch. */
export interface AppendItem extends GroupItem {
  readonly batch: Append
}

/** Appends a group of one tenant. `now` in milliseconds. */
export async function appendGroup(
  database: Database,
  scope: CallScope,
  items: readonly AppendItem[],
  now: number,
): Promise<readonly Outcome<Appended>[]> {
  const direct = new DirectAppends(scope.tenant, items, now)
  const statement = direct.statement()
  const outcomes = direct.outcomes(statement && (await database.query(scope, statement)))
  const open = items.filter((_, index) => outcomes[index] === undefined)
  const decided = open.length === 0 ? [] : await decideOpen(database, scope, open, now)
  let next = 0
  return items.map((_, index) => {
    const outcome = outcomes[index] ?? decided[next++]
    if (outcome === undefined) throw new Error("a group must answer every item")
    return outcome
  })
}

/** What fails here is the fault of nobody whose events are appended already. */
async function decideOpen(
  database: Database,
  scope: CallScope,
  items: readonly AppendItem[],
  now: number,
): Promise<readonly Outcome<Appended>[]> {
  try {
    return await runGroup(database, scope, appendPlan(scope.tenant, now), items, now)
  } catch (error) {
    return items.map(() => ({ ok: false, error }))
  }
}

/** The plan for a group of one tenant. `now` in milliseconds. */
function appendPlan(tenant: TenantId, now: number): GroupPlan<AppendItem, Appended> {
  return {
    operation: "appendEvents",
    reads: (items) => readHeads(tenant, items),
    decide: (items, [, heads, ids]) => {
      const streams = new Streams(now, heads, ids)
      const outcomes = items.map(({ batch }) => streams.apply(batch))
      return { outcomes, writes: streams.writes(tenant) }
    },
  }
}

function readHeads(tenant: TenantId, items: readonly AppendItem[]): readonly Statement[] {
  const streams = [...new Set(items.map(({ batch }) => batch.stream))]
  const given = items.flatMap(({ batch }) =>
    batch.events.filter(({ idGiven }) => idGiven).map(({ eventId }) => ({ stream: batch.stream, eventId })),
  )
  const heads: Statement = {
    name: "event_heads",
    text: `select stream, head, recorded_at, deleted_at is not null as deleted
      from streams where tenant = $1 and stream = any($2::text[])`,
    values: [tenant, streams],
  }
  const ids: Statement = {
    name: "event_ids",
    text: "select stream, event_id, revision, recorded_at from keelplane.events_known($1, $2, $3)",
    values: [tenant, given.map(({ stream }) => stream), given.map(({ eventId }) => eventId)],
  }
  return given.length === 0
    ? [lockStreams(tenant, streams), heads]
    : [lockStreams(tenant, streams), heads, ids]
}

interface HeadRow {
  readonly stream: string
  readonly head: bigint
  readonly recorded_at: Date
  readonly deleted: boolean
}

interface IdRow {
  readonly stream: string
  readonly event_id: string
  readonly revision: bigint
  readonly recorded_at: Date
}

interface Known {
  readonly revision: bigint
  readonly recordedMs: number
}

interface Head {
  head: bigint
  recordedMs: number
  readonly deleted: boolean
  changed: boolean
  readonly ids: Map<string, Known>
}

interface Placed {
  readonly stream: string
  readonly revision: bigint
  readonly recordedMs: number
  readonly event: EventDraft
}

/** The group's streams as they change from item to item. */
class Streams {
  readonly #now: number
  readonly #heads = new Map<string, Head>()
  readonly #placed: Placed[] = []

  constructor(
    now: number,
    heads: Rows<Record<string, unknown>> | undefined,
    ids: Rows<Record<string, unknown>> | undefined,
  ) {
    this.#now = now
    // The columns are those of the statements above.
    for (const row of (heads?.rows ?? []) as unknown as HeadRow[]) {
      const { stream, head, deleted } = row
      this.#heads.set(stream, {
        head,
        recordedMs: row.recorded_at.getTime(),
        deleted,
        changed: false,
        ids: new Map(),
      })
    }
    for (const row of (ids?.rows ?? []) as unknown as IdRow[]) {
      const { revision, recorded_at } = row
      this.#heads.get(row.stream)?.ids.set(row.event_id, { revision, recordedMs: recorded_at.getTime() })
    }
  }

  apply(batch: Append): Outcome<Appended> {
    const stream = this.#stream(batch.stream)
    const eventIds = batch.events.map(({ eventId }) => eventId)
    try {
      const decision = decideAppend(batch, {
        head: stream.head,
        deleted: stream.deleted,
        revisionOf: (id) => stream.ids.get(id)?.revision,
      })
      const repeated = decision.kind === "repeated"
      const first = repeated ? decision.first : stream.head + 1n
      if (!repeated) this.#place(batch, stream)
      const original = stream.ids.get(eventIds[0] ?? "")
      return {
        ok: true,
        value: {
          firstRevision: first,
          lastRevision: first + BigInt(batch.events.length) - 1n,
          eventIds,
          recordedMs: original?.recordedMs ?? stream.recordedMs,
          repeated,
        },
      }
    } catch (error) {
      return { ok: false, error }
    }
  }

  #stream(name: string): Head {
    const known = this.#heads.get(name)
    if (known !== undefined) return known
    const fresh = { head: 0n, recordedMs: 0, deleted: false, changed: false, ids: new Map<string, Known>() }
    this.#heads.set(name, fresh)
    return fresh
  }

  #place(batch: Append, stream: Head): void {
    stream.recordedMs = Math.max(stream.recordedMs, this.#now)
    stream.changed = true
    for (const event of batch.events) {
      stream.head++
      stream.ids.set(event.eventId, { revision: stream.head, recordedMs: stream.recordedMs })
      this.#placed.push({ stream: batch.stream, revision: stream.head, recordedMs: stream.recordedMs, event })
    }
  }

  writes(tenant: TenantId): readonly Statement[] {
    if (this.#placed.length === 0) return []
    const changed = [...this.#heads].filter(([, { changed }]) => changed)
    const heads: Statement = {
      name: "event_heads_write",
      text: `insert into streams (tenant, stream, head, created_at, recorded_at)
        select $1, h.stream, h.head, h.at, h.at from unnest($2::text[], $3::bigint[], $4::timestamptz[]) as h(stream, head, at)
        on conflict (tenant, stream) do update set head = excluded.head, recorded_at = excluded.recorded_at`,
      values: [
        tenant,
        changed.map(([name]) => name),
        changed.map(([, { head }]) => head),
        changed.map(([, { recordedMs }]) => new Date(recordedMs).toISOString()),
      ],
    }
    return [insertEvents(tenant, this.#placed), heads]
  }
}

function insertEvents(tenant: TenantId, placed: readonly Placed[]): Statement {
  const column = <T>(pick: (item: Placed) => T): T[] => placed.map(pick)
  return {
    name: "event_insert",
    text: `insert into events (tenant, stream, revision, event_id, type, json, bin, content_type, metadata, state_patch,
        correlation_id, causation_id, trace_parent, occurred_at, recorded_at, size)
      select $1, n.* from unnest($2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bytea[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::int[]) n`,
    values: [
      tenant,
      column(({ stream }) => stream),
      column(({ revision }) => revision),
      column(({ event }) => event.eventId),
      column(({ event }) => event.type),
      column(({ event }) => (event.data?.kind === "json" ? event.data.text : null)),
      column(({ event }) => (event.data?.kind === "binary" ? event.data.bytes : null)),
      column(({ event }) => event.contentType),
      column(({ event }) => event.metadata ?? null),
      column(({ event }) => event.statePatch ?? null),
      column(({ event }) => event.correlationId),
      column(({ event }) => event.causationId),
      column(({ event }) => event.traceParent),
      column(({ event, recordedMs }) => new Date(event.occurredMs ?? recordedMs).toISOString()),
      column(({ recordedMs }) => new Date(recordedMs).toISOString()),
      column(({ event }) => event.size),
    ],
  }
}
