/** Pages of sessions and of their messages. */
import type { Session } from "../../domain/event/session-model.ts"
import { MAX_LIST_BYTES, type MessagePage, type SessionQuery } from "../../domain/event/session-store.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database } from "./database.ts"
import { type FilterColumns, filterSql } from "./filter-sql.ts"
import {
  MESSAGE_COLUMNS,
  type MessageRow,
  messageOf,
  SESSION_COLUMNS,
  type SessionRow,
  sessionOf,
} from "./session-rows.ts"

const FILTER_COLUMNS: FilterColumns = {
  session_id: { sql: "s.session_id" },
  agent_id: { sql: "s.agent_id" },
  user_id: { sql: "s.user_id" },
  title: { sql: "s.title" },
  metadata: { sql: "s.metadata" },
  status: { sql: "s.status" },
  end_reason: { sql: "s.end_reason" },
  revision: { sql: "s.revision" },
  message_revision: { sql: "s.message_count" },
  create_time: { sql: "s.created_at" },
  update_time: { sql: "s.updated_at" },
  active_time: { sql: "s.active_at" },
  end_time: { sql: "s.ended_at" },
  expire_time: { sql: "s.expires_at" },
}

/** See SessionStore.list. */
export async function listSessions(
  database: Database,
  scope: CallScope,
  query: SessionQuery,
  page: PageRequest,
  now: number,
): Promise<Page<Session>> {
  const values: unknown[] = [scope.tenant, new Date(now), page.size + 1, MAX_LIST_BYTES]
  const param = (value: unknown): string => `$${values.push(value)}`
  const where = ["s.tenant = $1", "s.expires_at > $2"]
  if (query.agentId !== undefined) where.push(`s.agent_id = ${param(query.agentId)}`)
  if (query.userId !== undefined) where.push(`s.user_id = ${param(query.userId)}`)
  if (query.status !== undefined) where.push(`s.status = ${param(query.status)}`)
  const [createdMs, sessionId] = page.cursor ?? []
  if (createdMs !== undefined && sessionId !== undefined) {
    const created = param(new Date(Number(createdMs)))
    where.push(`(s.created_at, s.session_id) < (${created}::timestamptz, ${param(sessionId)}::text)`)
  }
  if (query.filter !== undefined) where.push(filterSql(query.filter, FILTER_COLUMNS, values))
  const { rows } = await database.query<SessionRow & { found: bigint }>(scope, {
    text: `select ${SESSION_COLUMNS}, s.found from (
        select s.*, count(*) over () as found,
          sum(s.size) over (order by s.created_at desc, s.session_id desc) - s.size as before
        from (select s.* from sessions s where ${where.join(" and ")}
          order by s.created_at desc, s.session_id desc limit $3) s) s
      where s.before < $4 order by s.created_at desc, s.session_id desc`,
    values,
  })
  const items = rows.slice(0, page.size).map(sessionOf)
  const last = items.at(-1)
  const more = BigInt(items.length) < (rows[0]?.found ?? 0n)
  return { items, next: more && last !== undefined ? [String(last.createdMs), last.sessionId] : undefined }
}

/** See SessionStore.messages. */
export async function listMessages(
  database: Database,
  scope: CallScope,
  read: { readonly sessionId: string; readonly newestFirst: boolean; readonly page: PageRequest },
  now: number,
): Promise<MessagePage> {
  const { sessionId, newestFirst, page } = read
  const [cursor] = page.cursor ?? []
  const direction = newestFirst ? "desc" : "asc"
  const { rows } = await database.query<
    MessageRow & { readonly message_count: bigint; readonly found: bigint | null }
  >(scope, {
    name: `session_messages_${direction}`,
    text: `select s.message_count, m.found, ${MESSAGE_COLUMNS} from sessions s left join (
        select m.*, count(*) over () as found, sum(m.size) over (order by m.sequence ${direction}) - m.size as before from (
          select m.* from session_messages m where m.tenant = $1 and m.session_id = $2
            and m.sequence ${newestFirst ? "<" : ">"} $4 order by m.sequence ${direction} limit $5) m) m on m.before < $6
      where s.tenant = $1 and s.session_id = $2 and s.expires_at > $3 order by m.sequence ${direction}`,
    values: [
      scope.tenant,
      sessionId,
      new Date(now),
      cursor ?? (newestFirst ? MAX_BIGINT : "0"),
      page.size + 1,
      MAX_LIST_BYTES,
    ],
  })
  const [first] = rows
  if (first === undefined) throw notFound("session", sessionId)
  const found = rows.filter((row) => row.found !== null)
  const items = found.slice(0, page.size).map(messageOf)
  const last = items.at(-1)
  const more = BigInt(items.length) < (first.found ?? 0n)
  return {
    items,
    next: more && last !== undefined ? [String(last.sequence)] : undefined,
    messageRevision: first.message_count,
  }
}

const MAX_BIGINT = "9223372036854775807"
