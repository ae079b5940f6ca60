/** Entries of the transactional outbox: effects on other stores that a committed transaction owes. */
import type { JsonValue } from "../kernel/json.ts"
import type { TenantId } from "../kernel/scope.ts"

/** Something to be done elsewhere after the transaction that adds it has committed. */
export interface NewOutboxEntry {
  /** Which handler does it, e.g. `audit`. */
  readonly topic: string
  /** Whose data it is about. */
  readonly tenant: TenantId
  /**
   * Entries of one (topic, tenant, key) are handed out one after the other, in the order in which they were added. That is the
   * order of their transactions where these hold a common lock (the row that the entry is about) when they add the entry.
   */
  readonly key: string
  /**
   * Names the effect: the same on every delivery, so that the target can tell a repetition. 1 to 128 bytes, unique within
   * topic and tenant.
   */
  readonly opId: string
  /** What the handler needs; see {@link jsonPayload}. Handlers of later versions must still read it. */
  readonly payload: Uint8Array
  /** W3C trace context of the call that added it; empty by default. */
  readonly traceparent?: string | undefined
}

/** An entry as handlers see it. */
export interface OutboxEntry extends NewOutboxEntry {
  /** Decimal digits; entries of one key rise in it. */
  readonly id: string
  readonly traceparent: string
  readonly createdMs: number
  /** Deliveries that failed before this one. A delivery whose daemon died is not among them. */
  readonly failures: number
  /** Those of them that were not the fault of a store that was away; as many as the relay allows, and the entry is parked. */
  readonly strikes: number
}

/** Why a delivery failed; nothing of the payload or a driver. */
export interface OutboxFault {
  /** A reason of {@link DomainError}. */
  readonly reason: string
  readonly message: string
}

/** An entry that is not tried any more until somebody has it replayed. It does not hold up later entries of its key. */
export interface ParkedEntry {
  readonly id: string
  readonly topic: string
  readonly tenant: TenantId
  readonly key: string
  readonly opId: string
  readonly payloadBytes: number
  readonly createdMs: number
  readonly parkedMs: number
  readonly failures: number
  readonly fault: OutboxFault
}

/** How far a topic is behind. */
export interface OutboxTopicStatus {
  readonly topic: string
  /** Entries that are not done and not parked. */
  readonly pending: bigint
  readonly parked: bigint
  /** Age of the oldest pending entry in milliseconds, which is the lag; undefined when none is pending. */
  readonly oldestAgeMs: number | undefined
}

/** Most bytes of a payload: what belongs elsewhere is read by the handler, by its key. */
export const OUTBOX_PAYLOAD_MAX_BYTES = 1_048_576

/** A payload of JSON. */
export function jsonPayload(value: JsonValue): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

/** What {@link jsonPayload} was given. Throws for a payload that it did not make. */
export function readJsonPayload(payload: Uint8Array): JsonValue {
  // JSON.parse answers nothing but JSON values.
  return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)) as JsonValue
}
