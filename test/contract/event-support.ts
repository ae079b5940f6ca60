/** Events for the suites. */
import assert from "node:assert/strict"
import { appendBatch, type NewEvent } from "../../src/domain/event/append-events.ts"
import type { ExpectedRevision, StoredEvent } from "../../src/domain/event/event-model.ts"
import type { EventStore } from "../../src/domain/event/event-store.ts"
import { readFeedPages, readStreamPages, type StreamRange } from "../../src/domain/event/read-events.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../src/domain/kernel/scope.ts"

/** A store under test. */
export interface EventHarness {
  readonly store: EventStore
  /** One more store over the same data, as another daemon would have, with a clock of its own where one is given. */
  another(clock?: { now(): number }): EventStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the store sees it; moves only here. */
  readonly clock: { now(): number; set(ms: number): void; advance(ms: number): void }
}

export const ANY: ExpectedRevision = { kind: "any" }

/** After exactly this revision. */
export function exactly(revision: bigint | number): ExpectedRevision {
  return { kind: "revision", revision: BigInt(revision) }
}

/** An event with the usual fields. */
export function event(fields: Partial<NewEvent> = {}): NewEvent {
  return {
    eventId: "",
    type: "t",
    contentType: "",
    correlationId: "",
    causationId: "",
    traceParent: "",
    ...fields,
  }
}

/** `count` events without ids. */
export function events(count: number, fields: Partial<NewEvent> = {}): NewEvent[] {
  return Array.from({ length: count }, () => event(fields))
}

/** Appends a batch. */
export function append(
  store: EventStore,
  scope: CallScope,
  stream: string,
  drafts: readonly NewEvent[],
  expected: ExpectedRevision = ANY,
) {
  return store.append(scope, appendBatch(stream, expected, drafts))
}

/** A whole stream, or a range of it. */
export async function readAll(
  store: EventStore,
  scope: CallScope,
  stream: string,
  range: Partial<StreamRange> = {},
): Promise<StoredEvent[]> {
  const found: StoredEvent[] = []
  const whole = { stream, backwards: false, from: 0n, limit: 0n, ...range }
  for await (const page of readStreamPages(store, scope, whole)) found.push(...page.events)
  return found
}

/** The whole feed, or a part of it. */
export async function readWholeFeed(
  store: EventStore,
  scope: CallScope,
  range: { category?: string; types?: string[]; fromMs?: number; toMs?: number } = {},
): Promise<StoredEvent[]> {
  const found: StoredEvent[] = []
  const whole = { types: [], after: undefined, limit: 0n, ...range }
  for await (const page of readFeedPages(store, scope, whole))
    found.push(...page.events.map((each) => each.event))
  return found
}

/** The scope of a call with a request_id; `body` stands for the rest of the request. */
export function withRequestId(scope: CallScope, requestId: string, body: number): CallScope {
  const method = "keelplane.v1.EventService/AppendEvents"
  return { ...scope, idempotency: { method, requestId, bodyHash: new Uint8Array(32).fill(body) } }
}

/** Asserts that a call fails with a reason, and answers the error. */
export async function rejects(call: Promise<unknown>, reason: Reason): Promise<DomainError> {
  try {
    await call
  } catch (error) {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return error
  }
  throw new assert.AssertionError({ message: `expected ${reason}, but the call succeeded` })
}

/** Resolves when the condition holds. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

/** A uuid made from a number. */
export function uuid(n: number): string {
  return `00000000-0000-4000-8000-${n.toString(16).padStart(12, "0")}`
}
