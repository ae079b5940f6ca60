/**
 * Appends of many callers in one round trip, by the function append_events of the migrations. It appends to streams that are as the
 * callers expect; whatever is otherwise (a lost race, a repetition) it leaves as it is, for event-append.ts to decide.
 */
import { decideAppend } from "../../domain/event/decide-append.ts"
import type { Append, Appended, EventDraft } from "../../domain/event/event-model.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Rows, Statement } from "./database.ts"
import type { AppendItem } from "./event-append.ts"

/** Stands for a stream that exists, where a revision is wanted, and for one that is deleted, where a head is told. */
const EXISTS = -1n
const DELETED = -1n

interface Batch {
  readonly batch: Append
  /** Where its outcome goes. */
  readonly item: number
  /** How many events its stream gets before it. */
  readonly before: number
}

/** What one stream gets. */
class StreamAppends {
  readonly name: string
  readonly batches: Batch[] = []
  readonly given = new Set<string>()
  events = 0
  /** The head that all batches can live with; undefined for any. */
  wanted: bigint | undefined
  /** Whether the batches can only be decided one by one. */
  mixed = false

  constructor(name: string) {
    this.name = name
  }

  add({ batch, idempotency }: AppendItem, item: number): void {
    if (idempotency !== undefined || !this.#expect(batch)) this.mixed = true
    for (const { idGiven, eventId } of batch.events) {
      if (!idGiven) continue
      if (this.given.has(eventId)) this.mixed = true
      this.given.add(eventId)
    }
    this.batches.push({ batch, item, before: this.events })
    this.events += batch.events.length
  }

  /** Whether there is a head after which this batch, like those before it, is appended. */
  #expect({ expected }: Append): boolean {
    if (expected.kind === "any") return true
    if (expected.kind === "stream_exists") {
      if (this.events === 0) this.wanted = EXISTS
      return true
    }
    const head = (expected.kind === "no_stream" ? 0n : expected.revision) - BigInt(this.events)
    const fits =
      this.wanted === EXISTS ? head > 0n : this.wanted === undefined ? head >= 0n : head === this.wanted
    this.wanted = head
    return fits
  }
}

/** A group of appends of one tenant, `now` in milliseconds. */
export class DirectAppends {
  readonly #tenant: TenantId
  readonly #now: number
  readonly #count: number
  readonly #streams: readonly StreamAppends[]

  constructor(tenant: TenantId, items: readonly AppendItem[], now: number) {
    this.#tenant = tenant
    this.#now = now
    this.#count = items.length
    const streams = new Map<string, StreamAppends>()
    for (const [index, item] of items.entries()) {
      const { stream } = item.batch
      const known = streams.get(stream)
      const appends = known ?? new StreamAppends(stream)
      if (known === undefined) streams.set(stream, appends)
      appends.add(item, index)
    }
    this.#streams = [...streams.values()].filter(({ mixed }) => !mixed)
  }

  /** Undefined where there is nothing that can be appended in this way. */
  statement(): Statement | undefined {
    const streams = this.#streams
    if (streams.length === 0) return undefined
    const events: { stream: number; place: number; event: EventDraft }[] = []
    const given: { stream: string; eventId: string }[] = []
    for (const [at, stream] of streams.entries()) {
      for (const { batch, before } of stream.batches) {
        for (const [nth, event] of batch.events.entries()) {
          events.push({ stream: at + 1, place: before + nth + 1, event })
        }
      }
      for (const eventId of stream.given) given.push({ stream: stream.name, eventId })
    }
    const text = (pick: (event: EventDraft) => string | undefined) =>
      shortened(events.map(({ event }) => pick(event) || null))
    return {
      name: "event_append",
      writes: true,
      text: `select heads, appended, later from keelplane.append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
        $14, $15, $16, $17, $18, $19, $20, $21)`,
      values: [
        this.#tenant,
        new Date(this.#now),
        streams.map(({ name }) => name),
        streams.map(({ wanted }) => wanted ?? null),
        streams.map(({ events }) => events),
        given.map(({ stream }) => stream),
        given.map(({ eventId }) => eventId),
        events.map(({ stream }) => stream),
        events.map(({ place }) => place),
        events.map(({ event }) => event.eventId),
        events.map(({ event }) => event.type),
        shortened(events.map(({ event }) => (event.data?.kind === "json" ? event.data.text : null))),
        shortened(events.map(({ event }) => (event.data?.kind === "binary" ? event.data.bytes : null))),
        text(({ contentType }) => contentType),
        text(({ metadata }) => metadata),
        text(({ statePatch }) => statePatch),
        text(({ correlationId }) => correlationId),
        text(({ causationId }) => causationId),
        text(({ traceParent }) => traceParent),
        shortened(
          events.map(({ event: { occurredMs } }) => (occurredMs === undefined ? null : new Date(occurredMs))),
        ),
        events.map(({ event }) => event.size),
      ],
    }
  }

  /** The outcomes by the statement's answer, of items in order; undefined for those that it leaves open. */
  outcomes(answer: Rows<Record<string, unknown>> | undefined): (Outcome<Appended> | undefined)[] {
    const outcomes = new Array<Outcome<Appended> | undefined>(this.#count).fill(undefined)
    // The columns are those of the function.
    const [row] = (answer?.rows ?? []) as unknown as AnswerRow[]
    if (row === undefined) return outcomes
    for (const [at, stream] of this.#streams.entries()) {
      const head = row.heads[at] ?? 0n
      if (row.appended[at] === true) {
        const recordedMs = Number(row.later[at] ?? this.#now)
        for (const { batch, item, before } of stream.batches) {
          outcomes[item] = { ok: true, value: placed(batch, head + BigInt(before), recordedMs) }
        }
      } else if (stream.given.size === 0) {
        // Ids of our own are new, so the head decides. An item that is not refused changes what later ones meet.
        const refusals = stream.batches.map(({ batch }) => refusal(batch, head))
        if (refusals.every((each) => each !== undefined)) {
          for (const [nth, { item }] of stream.batches.entries()) outcomes[item] = refusals[nth]
        }
      }
    }
    return outcomes
  }
}

interface AnswerRow {
  readonly heads: readonly (bigint | null)[]
  readonly appended: readonly (boolean | null)[]
  readonly later: readonly (bigint | null)[]
}

/** What a column's array says by ending early. */
function shortened<T>(values: readonly (T | null)[]): readonly (T | null)[] {
  return values.every((value) => value === null) ? [] : values
}

function placed(batch: Append, head: bigint, recordedMs: number): Appended {
  return {
    firstRevision: head + 1n,
    lastRevision: head + BigInt(batch.events.length),
    eventIds: batch.events.map(({ eventId }) => eventId),
    recordedMs,
    repeated: false,
  }
}

function refusal(batch: Append, head: bigint): Outcome<Appended> | undefined {
  try {
    decideAppend(batch, { head, deleted: head === DELETED, revisionOf: () => undefined })
    return undefined
  } catch (error) {
    return { ok: false, error }
  }
}
