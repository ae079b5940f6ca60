/** Rows of the session table as the domain's types, and the statements that write them. */
import type {
  Session as Conversation,
  MessageDraft,
  MessageRole,
  SessionStatus,
  StoredMessage,
} from "../../domain/event/session-model.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { ANSWER_TTL_S, type NewAnswer } from "./answers.ts"
import type { Statement } from "./database.ts"
import type { Stamp } from "./stamp.ts"

/** A session's partition without its rows. */
export interface SessionHead extends Stamp {
  readonly era: string
  /** Undefined where the id is free. */
  readonly session: Conversation | undefined
  /** When the sweep looks at it; 0 where it does not. */
  readonly remindMs: number
}

/** What a partition is that nobody has written to. */
export const NO_HEAD: SessionHead = { version: null, recent: null, era: "", session: undefined, remindMs: 0 }

/** A message and its place. */
export interface PlacedMessage {
  readonly era: string
  readonly sequence: bigint
  readonly createdMs: number
  readonly message: MessageDraft
}

/** A row of {@link selectHead}. */
export interface HeadRow extends Stamp {
  readonly session_id: string
  readonly era: string | null
  readonly agent_id: string
  readonly user_id: string
  readonly title: string
  readonly metadata: string
  readonly state: string
  readonly status: SessionStatus
  readonly end_reason: string
  readonly revision: bigint
  readonly message_count: bigint
  readonly input_tokens: bigint
  readonly output_tokens: bigint
  readonly created_at: Date
  readonly updated_at: Date
  readonly active_at: Date
  readonly ended_at: Date | null
  readonly ttl_ms: bigint | null
  readonly expires_at: Date
  readonly remind_at: Date | null
}

/** Reads a session's head. */
export function selectHead(tenant: string, sessionId: string): Statement {
  return {
    cql: `select distinct tenant, session_id, version, recent, era, agent_id, user_id, title, metadata, state, status,
        end_reason, revision, message_count, input_tokens, output_tokens, created_at, updated_at, active_at, ended_at,
        ttl_ms, expires_at, remind_at
      from sessions where tenant = ? and session_id = ?`,
    values: [tenant, sessionId],
  }
}

/** The head in a row of {@link selectHead}. */
export function headOf(row: HeadRow | undefined): SessionHead {
  if (row === undefined || row.era === null)
    return { ...NO_HEAD, recent: row?.recent ?? null, version: row?.version ?? null }
  const remindMs = row.remind_at?.getTime() ?? 0
  return { version: row.version, recent: row.recent, era: row.era, session: sessionOf(row), remindMs }
}

function sessionOf(row: HeadRow): Conversation {
  const expireMs = row.expires_at.getTime()
  return {
    sessionId: row.session_id,
    agentId: row.agent_id,
    userId: row.user_id,
    title: row.title,
    metadata: JSON.parse(row.metadata) as JsonObject,
    state: row.state,
    expiry: row.ttl_ms === null ? { kind: "at", expireMs } : { kind: "ttl", ttlMs: Number(row.ttl_ms) },
    status: row.status,
    endReason: row.end_reason,
    revision: row.revision,
    messageRevision: row.message_count,
    tokens: { input: row.input_tokens, output: row.output_tokens },
    createdMs: row.created_at.getTime(),
    updatedMs: row.updated_at.getTime(),
    activeMs: row.active_at.getTime(),
    endedMs: row.ended_at?.getTime(),
    expireMs,
  }
}

/** What a conditional write leaves behind. */
export interface HeadWrite {
  readonly tenant: string
  readonly session: Conversation
  readonly era: string
  /** The write that it follows; null for the first. */
  readonly expected: string | null
  readonly stamp: { readonly version: string; readonly recent: readonly string[] }
  readonly remindMs: number
}

/** Writes every column of a head. `using ttl 0` says that it outlives whatever TTL the table may be given. */
export function writeHead({ tenant, session, era, expected, stamp, remindMs }: HeadWrite): Statement {
  return {
    cql: `update sessions using ttl 0 set version = ?, recent = ?, era = ?, agent_id = ?, user_id = ?, title = ?, metadata = ?,
        state = ?, status = ?, end_reason = ?, revision = ?, message_count = ?, input_tokens = ?, output_tokens = ?,
        created_at = ?, updated_at = ?, active_at = ?, ended_at = ?, ttl_ms = ?, expires_at = ?, remind_at = ?
      where tenant = ? and session_id = ? if version = ?`,
    values: [
      stamp.version,
      stamp.recent,
      era,
      session.agentId,
      session.userId,
      session.title,
      JSON.stringify(session.metadata),
      session.state,
      session.status,
      session.endReason,
      session.revision,
      session.messageRevision,
      session.tokens.input,
      session.tokens.output,
      new Date(session.createdMs),
      new Date(session.updatedMs),
      new Date(session.activeMs),
      session.endedMs === undefined ? null : new Date(session.endedMs),
      session.expiry.kind === "ttl" ? BigInt(session.expiry.ttlMs) : null,
      new Date(session.expireMs),
      new Date(remindMs),
      tenant,
      session.sessionId,
      expected,
    ],
  }
}

/** Writes what messages change of a head; state and metadata may be a megabyte. */
export function touchHead({ tenant, session, expected, stamp }: HeadWrite): Statement {
  return {
    cql: `update sessions using ttl 0 set version = ?, recent = ?, message_count = ?, input_tokens = ?, output_tokens = ?,
        active_at = ?, expires_at = ? where tenant = ? and session_id = ? if version = ?`,
    values: [
      stamp.version,
      stamp.recent,
      session.messageRevision,
      session.tokens.input,
      session.tokens.output,
      new Date(session.activeMs),
      new Date(session.expireMs),
      tenant,
      session.sessionId,
      expected,
    ],
  }
}

/** Says when the sweep looks at a session next. */
export function moveReminder(
  tenant: string,
  sessionId: string,
  expected: string,
  stamp: HeadWrite["stamp"],
  remindMs: number,
): Statement {
  return {
    cql: `update sessions using ttl 0 set version = ?, recent = ?, remind_at = ? where tenant = ? and session_id = ?
      if version = ?`,
    values: [stamp.version, stamp.recent, new Date(remindMs), tenant, sessionId, expected],
  }
}

/** Frees a session's id: nothing of its head stays. */
export function clearHead(tenant: string, sessionId: string, expected: string): Statement {
  return {
    cql: `update sessions set version = null, recent = null, era = null, agent_id = null, user_id = null, title = null,
        metadata = null, state = null, status = null, end_reason = null, revision = null, message_count = null,
        input_tokens = null, output_tokens = null, created_at = null, updated_at = null, active_at = null, ended_at = null,
        ttl_ms = null, expires_at = null, remind_at = null
      where tenant = ? and session_id = ? if version = ?`,
    values: [tenant, sessionId, expected],
  }
}

/** Removes an era's messages, or the kept answers; with the head's change, so that no clock but the servers' matters. */
export function clearPart(tenant: string, sessionId: string, part: string): Statement {
  return {
    cql: "delete from sessions where tenant = ? and session_id = ? and part = ?",
    values: [tenant, sessionId, part],
  }
}

/** Adds a message. */
export function insertMessage(tenant: string, sessionId: string, placed: PlacedMessage): Statement {
  const { era, sequence, createdMs, message } = placed
  return {
    cql: `insert into sessions (tenant, session_id, part, sequence, request, role, body, tokens_in, tokens_out, at, size)
      values (?, ?, ?, ?, '', ?, ?, ?, ?, ?, ?)`,
    values: [
      tenant,
      sessionId,
      era,
      sequence,
      message.role,
      message.body,
      message.tokens?.input,
      message.tokens?.output,
      new Date(createdMs),
      message.size,
    ],
  }
}

/** Keeps an answer. */
export function insertAnswer(tenant: string, sessionId: string, answer: NewAnswer): Statement {
  return {
    cql: `insert into sessions (tenant, session_id, part, sequence, request, body_hash, result, answer_expires_at)
      values (?, ?, '', 0, ?, ?, ?, ?) using ttl ${ANSWER_TTL_S}`,
    values: [tenant, sessionId, answer.request, answer.bodyHash, answer.result, answer.expiresAt],
  }
}

/** Kept answers by their keys. */
export function selectAnswers(tenant: string, sessionId: string, requests: readonly string[]): Statement {
  return {
    cql: `select request, body_hash, result, answer_expires_at as expires_at from sessions
      where tenant = ? and session_id = ? and part = '' and sequence = 0 and request in ?`,
    values: [tenant, sessionId, requests],
  }
}

/** A message's row. */
export interface MessageRow {
  readonly sequence: bigint
  readonly role: MessageRole
  readonly body: string
  readonly tokens_in: bigint | null
  readonly tokens_out: bigint | null
  readonly at: Date
}

/** A message from its row. */
export function messageOf(row: MessageRow): StoredMessage {
  const { sequence, role, body, tokens_in: input, tokens_out: output } = row
  const tokens = input === null || output === null ? undefined : { input, output }
  return { sequence, role, body, tokens, createdMs: row.at.getTime() }
}
