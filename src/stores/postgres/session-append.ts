/** Appends of messages by many callers in one transaction: lock the sessions, decide in order, insert. */
import { applyMessages } from "../../domain/event/apply-session-change.ts"
import type {
  AppendedMessages,
  MessageBatch,
  MessageDraft,
  Session,
} from "../../domain/event/session-model.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Statement } from "./database.ts"
import type { GroupItem, GroupPlan } from "./grouped-mutation.ts"
import { SESSION_COLUMNS, type SessionRow, sessionOf } from "./session-rows.ts"

/** One caller's batch. */
export interface MessagesItem extends GroupItem {
  readonly batch: MessageBatch
}

interface Placed {
  readonly sessionId: string
  readonly sequence: bigint
  readonly createdMs: number
  readonly message: MessageDraft
}

/** The plan for a group of one tenant. `now` in milliseconds. */
export function messagesPlan(tenant: TenantId, now: number): GroupPlan<MessagesItem, AppendedMessages> {
  return {
    operation: "appendMessages",
    reads: (items) => [lockSessions(tenant, items)],
    decide: (items, [found]) => {
      // The columns are those of the statement.
      const rows = (found?.rows ?? []) as unknown as SessionRow[]
      const sessions = new Map(rows.map((row) => [row.session_id, sessionOf(row)]))
      const changed = new Map<string, Session>()
      const placed: Placed[] = []
      const outcomes = items.map(({ batch }): Outcome<AppendedMessages> => {
        try {
          const before = sessions.get(batch.sessionId)
          const session = applyMessages(before, batch, now)
          const first = session.messageRevision - BigInt(batch.messages.length) + 1n
          sessions.set(batch.sessionId, session)
          changed.set(batch.sessionId, session)
          const { activeMs: createdMs, expireMs, messageRevision } = session
          for (const [at, message] of batch.messages.entries()) {
            placed.push({ sessionId: batch.sessionId, sequence: first + BigInt(at), createdMs, message })
          }
          return { ok: true, value: { firstSequence: first, messageRevision, createdMs, expireMs } }
        } catch (error) {
          return { ok: false, error }
        }
      })
      const writes =
        placed.length === 0
          ? []
          : [insertMessages(tenant, placed), touchSessions(tenant, [...changed.values()])]
      return { outcomes, writes }
    },
  }
}

/** In one order for all, so that no two groups wait for each other. */
function lockSessions(tenant: TenantId, items: readonly MessagesItem[]): Statement {
  return {
    name: "session_lock_many",
    text: `select ${SESSION_COLUMNS} from sessions s where s.tenant = $1 and s.session_id = any($2::text[])
      order by s.session_id for update`,
    values: [tenant, [...new Set(items.map(({ batch }) => batch.sessionId))]],
  }
}

function insertMessages(tenant: TenantId, placed: readonly Placed[]): Statement {
  const column = <T>(pick: (item: Placed) => T): T[] => placed.map(pick)
  return {
    name: "session_messages_insert",
    text: `insert into session_messages (tenant, session_id, sequence, role, body, input_tokens, output_tokens, created_at, size)
      select $1, n.* from unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
        $8::timestamptz[], $9::int[]) n`,
    values: [
      tenant,
      column(({ sessionId }) => sessionId),
      column(({ sequence }) => sequence),
      column(({ message }) => message.role),
      column(({ message }) => message.body),
      column(({ message }) => message.tokens?.input ?? null),
      column(({ message }) => message.tokens?.output ?? null),
      column(({ createdMs }) => new Date(createdMs).toISOString()),
      column(({ message }) => message.size),
    ],
  }
}

function touchSessions(tenant: TenantId, sessions: readonly Session[]): Statement {
  const column = <T>(pick: (item: Session) => T): T[] => sessions.map(pick)
  return {
    name: "session_touch",
    text: `update sessions s set message_count = n.message_count, input_tokens = n.input_tokens,
        output_tokens = n.output_tokens, active_at = n.active_at, expires_at = n.expires_at
      from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
        as n(session_id, message_count, input_tokens, output_tokens, active_at, expires_at)
      where s.tenant = $1 and s.session_id = n.session_id`,
    values: [
      tenant,
      column(({ sessionId }) => sessionId),
      column(({ messageRevision }) => messageRevision),
      column(({ tokens }) => tokens.input),
      column(({ tokens }) => tokens.output),
      column(({ activeMs }) => new Date(activeMs).toISOString()),
      column(({ expireMs }) => new Date(expireMs).toISOString()),
    ],
  }
}
