/** The rule of an append, free of any engine: new, a repetition, or refused. */
import { DomainError, revisionMismatch } from "../kernel/errors.ts"
import type { Append, EventDraft } from "./event-model.ts"

/** What an engine knows about the stream at the moment that it has exclusive access to it. */
export interface StreamFacts {
  /** Revision of the last event; 0 where there never was one. */
  readonly head: bigint
  readonly deleted: boolean
  /** The revision of an event id in this stream. Need only know the ids that callers gave. */
  revisionOf(eventId: string): bigint | undefined
}

/** Append after the head, or answer what is there from `first` on. */
export type AppendDecision =
  | { readonly kind: "append" }
  | { readonly kind: "repeated"; readonly first: bigint }

/** Decides; throws STREAM_DELETED, REVISION_MISMATCH or CORRUPTED_IDEMPOTENCY. */
export function decideAppend(batch: Append, facts: StreamFacts): AppendDecision {
  if (facts.deleted) throw streamDeleted(batch.stream)
  const exact = exactRevision(batch)
  if (exact !== undefined && exact !== facts.head) return pastRevision(batch, facts, exact)
  if (batch.expected.kind === "stream_exists" && facts.head === 0n) {
    throw notThereYet(batch.stream)
  }
  return atHead(batch, facts, exact === undefined)
}

/** STREAM_DELETED. */
export function streamDeleted(stream: string): DomainError {
  return new DomainError(
    "STREAM_DELETED",
    `stream "${stream}" is deleted and its name cannot be used again; choose another one`,
    { metadata: { stream } },
  )
}

function notThereYet(stream: string): DomainError {
  return new DomainError(
    "REVISION_MISMATCH",
    `stream "${stream}" does not exist yet; append without expecting it, or wait for its first event`,
    { metadata: { resource: "stream", name: stream, expected: "stream_exists", actual: "0" } },
  )
}

function exactRevision({ expected }: Append): bigint | undefined {
  if (expected.kind === "no_stream") return 0n
  return expected.kind === "revision" ? expected.revision : undefined
}

/** The stream is elsewhere: only the very same events right after the expected revision are a repetition. */
function pastRevision(batch: Append, facts: StreamFacts, expected: bigint): AppendDecision {
  const [first] = batch.events
  if (first === undefined || expected > facts.head || facts.revisionOf(first.eventId) !== expected + 1n) {
    throw revisionMismatch("stream", batch.stream, expected, facts.head)
  }
  return repetition(batch, facts, expected + 1n)
}

/** The expectation fits: the batch must be all new or, where no revision was expected, all there. */
function atHead(batch: Append, facts: StreamFacts, mayRepeat: boolean): AppendDecision {
  const known = batch.events.find((event) => facts.revisionOf(event.eventId) !== undefined)
  if (known === undefined) return { kind: "append" }
  const [first] = batch.events
  const start = first === undefined ? undefined : facts.revisionOf(first.eventId)
  if (!mayRepeat || start === undefined) throw corrupted(batch, known, facts)
  return repetition(batch, facts, start)
}

function repetition(batch: Append, facts: StreamFacts, first: bigint): AppendDecision {
  const stray = batch.events.findIndex((event, i) => facts.revisionOf(event.eventId) !== first + BigInt(i))
  const event = batch.events[stray]
  if (event !== undefined) throw corrupted(batch, event, facts)
  return { kind: "repeated", first }
}

function corrupted(batch: Append, event: EventDraft, facts: StreamFacts): DomainError {
  const revision = facts.revisionOf(event.eventId)
  const place =
    revision === undefined ? "is not in the stream, others of the batch are" : `is at revision ${revision}`
  return new DomainError(
    "CORRUPTED_IDEMPOTENCY",
    `event ${event.eventId} ${place}: this batch is neither new in stream "${batch.stream}" nor a repetition; ` +
      "send the original batch again, or new ids",
    {
      metadata: {
        stream: batch.stream,
        event_id: event.eventId,
        revision: revision === undefined ? "none" : String(revision),
      },
    },
  )
}
