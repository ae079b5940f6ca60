/** Pages of sessions and of their messages. */
import type { Session as Conversation, StoredMessage } from "../../domain/event/session-model.ts"
import { sessionBytes } from "../../domain/event/session-size.ts"
import { MAX_LIST_BYTES, type MessagePage, type SessionQuery } from "../../domain/event/session-store.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import { type FieldValue, matchesFilter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import type { IndexedSession, SessionIndex } from "./session-index.ts"
import {
  type HeadRow,
  headOf,
  type MessageRow,
  messageOf,
  type SessionHead,
  selectHead,
} from "./session-rows.ts"

/** Sessions that are read at once; each may have a megabyte. */
const READ_AT_ONCE = 8
/** Most sessions that one list looks at; where few of them fit, the page is short and goes on from there. */
const MAX_LOOKED_AT = 2_000

/** See SessionStore.list. */
export async function listSessions(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  { query, page, now }: { readonly query: SessionQuery; readonly page: PageRequest; readonly now: number },
): Promise<Page<Conversation>> {
  const [createdMs, sessionId] = page.cursor ?? []
  const cursor =
    createdMs === undefined || sessionId === undefined
      ? undefined
      : { createdMs: Number(createdMs), sessionId }
  const items: Conversation[] = []
  let bytes = 0
  let seen = 0
  let last: IndexedSession | undefined
  const cut = (): Page<Conversation> => ({ items, next: last && [String(last.createdMs), last.sessionId] })
  for await (const found of index.newest(scope, query, cursor)) {
    for (let at = 0; at < found.length; at += READ_AT_ONCE) {
      const some = found.slice(at, at + READ_AT_ONCE)
      const heads = await Promise.all(some.map((each) => readHead(cql, scope, each.sessionId, false)))
      for (const [n, entry] of some.entries()) {
        const session = belonging(heads[n], entry, now)
        if (session !== undefined && fits(session, query)) {
          if (items.length === page.size || bytes >= MAX_LIST_BYTES) return cut()
          items.push(session)
          bytes += sessionBytes(session)
        }
        last = entry
        if (++seen >= MAX_LOOKED_AT) return cut()
      }
    }
  }
  return { items }
}

/** A session's head. `serial` settles what is under way first. */
export async function readHead(
  cql: Cluster,
  scope: CallScope,
  sessionId: string,
  serial: boolean,
): Promise<SessionHead> {
  const [row] = await cql.read<HeadRow>(scope, selectHead(scope.tenant, sessionId), { serial })
  return headOf(row)
}

/** The session of an index row, where it is there and has not expired. */
function belonging(
  head: SessionHead | undefined,
  entry: IndexedSession,
  now: number,
): Conversation | undefined {
  const session = head?.session
  if (session === undefined || head?.era !== entry.era) return undefined
  return session.createdMs === entry.createdMs && session.expireMs > now ? session : undefined
}

function fits(session: Conversation, { agentId, userId, status, filter }: SessionQuery): boolean {
  if (agentId !== undefined && session.agentId !== agentId) return false
  if (userId !== undefined && session.userId !== userId) return false
  if (status !== undefined && session.status !== status) return false
  return filter === undefined || matchesFilter(filter, (field) => fieldOf(session, field))
}

function fieldOf(session: Conversation, field: string): FieldValue {
  return FIELDS[field]?.(session)
}

const FIELDS: Readonly<Record<string, (session: Conversation) => FieldValue>> = {
  session_id: ({ sessionId }) => sessionId,
  agent_id: ({ agentId }) => agentId,
  user_id: ({ userId }) => userId,
  title: ({ title }) => title,
  metadata: ({ metadata }) => metadata,
  status: ({ status }) => status,
  end_reason: ({ endReason }) => endReason,
  revision: ({ revision }) => revision,
  message_revision: ({ messageRevision }) => messageRevision,
  create_time: ({ createdMs }) => createdMs,
  update_time: ({ updatedMs }) => updatedMs,
  active_time: ({ activeMs }) => activeMs,
  end_time: ({ endedMs }) => endedMs,
  expire_time: ({ expireMs }) => expireMs,
}

/** See SessionStore.messages. */
export async function listMessages(
  cql: Cluster,
  scope: CallScope,
  read: { readonly sessionId: string; readonly newestFirst: boolean; readonly page: PageRequest },
  now: number,
): Promise<MessagePage> {
  const { sessionId, newestFirst, page } = read
  const { session, era } = await readHead(cql, scope, sessionId, false)
  if (session === undefined || session.expireMs <= now) throw notFound("session", sessionId)
  const { messageRevision } = session
  const after = page.cursor?.[0] === undefined ? undefined : BigInt(page.cursor[0])
  const first = newestFirst ? (after ?? messageRevision + 1n) - 1n : (after ?? 0n) + 1n
  const left = newestFirst ? first : messageRevision - first + 1n
  const count = left < BigInt(page.size) ? Number(left) : page.size
  if (count <= 0) return { items: [], messageRevision }
  const span = { tenant: scope.tenant, sessionId, era, newestFirst, first }
  const cut = await cutBySize(cql, scope, span, count)
  const items = await rangeOf(cql, scope, span, cut)
  const last = items.at(-1)
  const more = last !== undefined && BigInt(items.length) < left
  return { items, next: more ? [String(last.sequence)] : undefined, messageRevision }
}

interface Span {
  readonly tenant: string
  readonly sessionId: string
  readonly era: string
  readonly newestFirst: boolean
  readonly first: bigint
}

/** How many of the next `count` messages one answer takes. */
async function cutBySize(cql: Cluster, scope: CallScope, span: Span, count: number): Promise<number> {
  const sizes = await gapless(count, (serial) =>
    cql.read<{ size: number }>(scope, selectMessages(span, "size", count), { serial, pageRows: 1_000 }),
  )
  let bytes = 0
  for (const [at, row] of sizes.entries()) {
    if (bytes >= MAX_LIST_BYTES) return at
    bytes += row.size
  }
  return sizes.length
}

async function rangeOf(cql: Cluster, scope: CallScope, span: Span, count: number): Promise<StoredMessage[]> {
  const columns = "sequence, role, body, tokens_in, tokens_out, at"
  const rows = await gapless(count, (serial) =>
    cql.read(scope, selectMessages(span, columns, count), { serial }),
  )
  return (rows as unknown as readonly MessageRow[]).map(messageOf)
}

/**
 * A head may be seen on one node before the messages beside it have reached the others. Messages have no gaps, so that this
 * shows; a serial read settles it.
 */
async function gapless<T>(
  count: number,
  read: (serial: boolean) => Promise<readonly T[]>,
): Promise<readonly T[]> {
  const rows = await read(false)
  return rows.length >= count ? rows : read(true)
}

function selectMessages(
  { tenant, sessionId, era, newestFirst, first }: Span,
  columns: string,
  count: number,
) {
  return {
    cql: `select ${columns} from sessions where tenant = ? and session_id = ? and part = ? and sequence ${
      newestFirst ? "<=" : ">="
    } ? order by part ${newestFirst ? "desc" : "asc"}, sequence ${newestFirst ? "desc" : "asc"} limit ?`,
    values: [tenant, sessionId, era, first, count],
  }
}
