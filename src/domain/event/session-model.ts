/** Conversations as the domain sees them. */
import type { JsonObject } from "../kernel/json.ts"

/** How long a session is kept after its last activity when nothing else is said: 30 days. */
export const DEFAULT_SESSION_TTL_MS = 30 * 86_400_000
/** Largest metadata as JSON. */
export const MAX_SESSION_METADATA_BYTES = 65_536
/** Largest state as JSON. */
export const MAX_SESSION_STATE_BYTES = 1_048_576
/** Largest metadata and state together, on the wire. */
export const MAX_SESSION_BYTES = 1_048_576
/** Most messages in one append. */
export const MAX_APPEND_MESSAGES = 100
/** Most bytes in one append over all messages, as JSON and on the wire. */
export const MAX_MESSAGES_BYTES = 1_048_576

/** Where a session is in its life. */
export type SessionStatus = "active" | "ended"

/** When a session goes: so long after its last activity, or at a fixed time. Milliseconds. */
export type SessionExpiry =
  | { readonly kind: "ttl"; readonly ttlMs: number }
  | { readonly kind: "at"; readonly expireMs: number }

/** Tokens read and written by a model. */
export interface TokenCounts {
  readonly input: bigint
  readonly output: bigint
}

/** A session to be made. */
export interface SessionDraft {
  readonly sessionId: string
  readonly agentId: string
  readonly userId: string
  readonly title: string
  readonly metadata: JsonObject
  /** Text of a JSON object. */
  readonly state: string
  readonly expiry: SessionExpiry
}

/** A session as it is kept. */
export interface Session extends SessionDraft {
  readonly status: SessionStatus
  /** Empty while it is active. */
  readonly endReason: string
  /** Rises with every change of the session itself; the first is 1. */
  readonly revision: bigint
  /** Messages appended so far. */
  readonly messageRevision: bigint
  readonly tokens: TokenCounts
  readonly createdMs: number
  readonly updatedMs: number
  readonly activeMs: number
  readonly endedMs?: number | undefined
  readonly expireMs: number
}

/** What an update changes; absent parts stay. */
export interface SessionChange {
  readonly title?: string | undefined
  readonly metadata?: JsonObject | undefined
  /** Text of a JSON object. */
  readonly state?: string | undefined
  /** A JSON merge patch to the state. Not together with `state`. */
  readonly statePatch?: JsonObject | undefined
  readonly expiry?: SessionExpiry | undefined
}

/** Who speaks. */
export type MessageRole = "user" | "assistant" | "system" | "tool"

/** A message ready to be appended. */
export interface MessageDraft {
  readonly role: MessageRole
  /** Everything else that was said, as encodeMessage made it. */
  readonly body: string
  readonly tokens?: TokenCounts | undefined
  /** Bytes as JSON or on the wire, whichever are more. */
  readonly size: number
}

/** A message as it is kept. */
export interface StoredMessage extends Omit<MessageDraft, "size"> {
  /** The first has 1, every next one exactly one more. */
  readonly sequence: bigint
  readonly createdMs: number
}

/** A batch for one session; all or nothing. */
export interface MessageBatch {
  readonly sessionId: string
  /** 1 to {@link MAX_APPEND_MESSAGES}. */
  readonly messages: readonly MessageDraft[]
  /** The message revision that the session must have. */
  readonly ifRevision?: bigint | undefined
}

/** Where a batch is. */
export interface AppendedMessages {
  readonly firstSequence: bigint
  readonly messageRevision: bigint
  readonly createdMs: number
  readonly expireMs: number
}
