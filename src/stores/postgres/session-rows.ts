/** Rows of the session tables as the domain's types. */
import type { MessageRole, Session, SessionStatus, StoredMessage } from "../../domain/event/session-model.ts"
import { sessionBytes } from "../../domain/event/session-size.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { Statement } from "./database.ts"

/** A row of {@link SESSION_COLUMNS}. */
export interface SessionRow {
  readonly session_id: string
  readonly agent_id: string
  readonly user_id: string
  readonly title: string
  readonly metadata: JsonObject
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
}

/** The columns of {@link SessionRow}, of a table named s. */
export const SESSION_COLUMNS = `s.session_id, s.agent_id, s.user_id, s.title, s.metadata, s.state, s.status, s.end_reason,
  s.revision, s.message_count, s.input_tokens, s.output_tokens, s.created_at, s.updated_at, s.active_at, s.ended_at,
  s.ttl_ms, s.expires_at`

/** A session from its row. */
export function sessionOf(row: SessionRow): Session {
  const expireMs = row.expires_at.getTime()
  return {
    sessionId: row.session_id,
    agentId: row.agent_id,
    userId: row.user_id,
    title: row.title,
    metadata: row.metadata,
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

/**
 * Writes every column of a session. Answers no row where the id is taken by a session that has not expired by `now`; with
 * `replaced` where it is by one that has.
 */
export function insertSession(tenant: string, session: Session, now: number): Statement {
  return {
    name: "session_insert",
    text: `insert into sessions as s (tenant, session_id, agent_id, user_id, title, metadata, state, status, end_reason,
        revision, message_count, input_tokens, output_tokens, created_at, updated_at, active_at, ended_at, ttl_ms, expires_at,
        size)
      values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
      on conflict (tenant, session_id) do update set agent_id = excluded.agent_id, user_id = excluded.user_id,
        title = excluded.title, metadata = excluded.metadata, state = excluded.state, status = excluded.status,
        end_reason = excluded.end_reason, revision = excluded.revision, message_count = excluded.message_count,
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens, created_at = excluded.created_at,
        updated_at = excluded.updated_at, active_at = excluded.active_at, ended_at = excluded.ended_at,
        ttl_ms = excluded.ttl_ms, expires_at = excluded.expires_at, size = excluded.size
        where s.expires_at <= $21
      returning s.xmax::text <> '0' as replaced`,
    values: [tenant, ...valuesOf(session), new Date(now)],
  }
}

/** Writes what an update or an end may have changed. */
export function updateSession(tenant: string, session: Session): Statement {
  return {
    name: "session_update",
    text: `update sessions set agent_id = $3, user_id = $4, title = $5, metadata = $6::jsonb, state = $7, status = $8,
        end_reason = $9, revision = $10, message_count = $11, input_tokens = $12, output_tokens = $13, created_at = $14,
        updated_at = $15, active_at = $16, ended_at = $17, ttl_ms = $18, expires_at = $19, size = $20
      where tenant = $1 and session_id = $2`,
    values: [tenant, ...valuesOf(session)],
  }
}

function valuesOf(session: Session): readonly unknown[] {
  const metadata = JSON.stringify(session.metadata)
  return [
    session.sessionId,
    session.agentId,
    session.userId,
    session.title,
    metadata,
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
    session.expiry.kind === "ttl" ? session.expiry.ttlMs : null,
    new Date(session.expireMs),
    sessionBytes(session),
  ]
}

/** A row of {@link MESSAGE_COLUMNS}. */
export interface MessageRow {
  readonly sequence: bigint
  readonly role: MessageRole
  readonly body: string
  readonly input_tokens: bigint | null
  readonly output_tokens: bigint | null
  readonly created_at: Date
}

/** The columns of {@link MessageRow}, of a table named m. */
export const MESSAGE_COLUMNS = "m.sequence, m.role, m.body, m.input_tokens, m.output_tokens, m.created_at"

/** A message from its row. */
export function messageOf(row: MessageRow): StoredMessage {
  const { sequence, role, body, input_tokens: input, output_tokens: output } = row
  const tokens = input === null || output === null ? undefined : { input, output }
  return { sequence, role, body, tokens, createdMs: row.created_at.getTime() }
}
