/** Sessions in PostgreSQL. */
import { applyChange, applyEnd, newSession } from "../../domain/event/apply-session-change.ts"
import type { AppendedMessages, Session, SessionDraft } from "../../domain/event/session-model.ts"
import type { SessionStore } from "../../domain/event/session-store.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { alreadyExists, notFound } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { createGroupCommit } from "../group-commit.ts"
import type { Database, Tx } from "./database.ts"
import { runGroup } from "./grouped-mutation.ts"
import { type MessagesItem, messagesPlan } from "./session-append.ts"
import { listMessages, listSessions } from "./session-list.ts"
import { insertSession, SESSION_COLUMNS, type SessionRow, sessionOf, updateSession } from "./session-rows.ts"

/** How {@link createPostgresSessionStore} works. */
export interface PostgresSessionStoreOptions {
  readonly clock: Clock
  /** Transactions of appends that may be under way at once, each of another tenant. One for an engine with one connection. */
  readonly concurrency: number
}

const GROUP_ITEMS = 256
const GROUP_BYTES = 4 * 1_048_576

/** A {@link SessionStore} over `database`. */
export function createPostgresSessionStore(
  database: Database,
  { clock, concurrency }: PostgresSessionStoreOptions,
): SessionStore {
  const appends = createGroupCommit<MessagesItem, AppendedMessages>({
    key: (scope) => scope.tenant,
    maxItems: GROUP_ITEMS,
    maxBytes: GROUP_BYTES,
    bytes: ({ batch }) => batch.messages.reduce((sum, { size }) => sum + size, 0),
    concurrency,
    run: (scope, items) => {
      const now = clock.now()
      return runGroup(database, scope, messagesPlan(scope.tenant, now), items, now)
    },
  })
  const changed = (scope: CallScope, operation: string, id: string, change: (session: Session) => Session) =>
    database.mutate(scope, operation, (tx) => changeSession(tx, id, clock.now(), change))
  return {
    create: (scope, draft) =>
      database.mutate(scope, "createSession", (tx) => createSession(tx, draft, clock.now())),
    get: async (scope, sessionId) => {
      const { rows } = await database.query<SessionRow>(scope, {
        name: "session_get",
        text: `select ${SESSION_COLUMNS} from sessions s where s.tenant = $1 and s.session_id = $2 and s.expires_at > $3`,
        values: [scope.tenant, sessionId, new Date(clock.now())],
      })
      return first(rows, sessionId)
    },
    update: (scope, sessionId, change, ifRevision) =>
      changed(scope, "updateSession", sessionId, (session) =>
        applyChange(session, change, ifRevision, clock.now()),
      ),
    end: (scope, sessionId, reason, ifRevision) =>
      changed(scope, "endSession", sessionId, (session) =>
        applyEnd(session, reason, ifRevision, clock.now()),
      ),
    list: (scope, query, page) => listSessions(database, scope, query, page, clock.now()),
    append: (scope, batch) => appends.add(scope, { batch, idempotency: scope.idempotency }),
    messages: (scope, sessionId, newestFirst, page) =>
      listMessages(database, scope, { sessionId, newestFirst, page }, clock.now()),
    erase: (scope, sessionId) => database.transaction(scope, (tx) => eraseSession(tx, sessionId)),
    sweep: (scope, limit) => database.transaction(scope, (tx) => sweepSessions(tx, clock.now(), limit)),
  }
}

function first(rows: readonly SessionRow[], sessionId: string): Session {
  const [row] = rows
  if (row === undefined) throw notFound("session", sessionId)
  return sessionOf(row)
}

async function createSession(tx: Tx, draft: SessionDraft, now: number): Promise<Session> {
  const session = newSession(draft, now)
  const { rows } = await tx.query<{ replaced: boolean }>(insertSession(tx.scope.tenant, session, now))
  const [row] = rows
  if (row === undefined) throw alreadyExists("session", draft.sessionId)
  // The expired session's messages, which no sweep has met yet.
  if (row.replaced) {
    await tx.query({
      name: "session_messages_drop",
      text: "delete from session_messages where tenant = $1 and session_id = $2",
      values: [tx.scope.tenant, draft.sessionId],
    })
  }
  return session
}

async function changeSession(
  tx: Tx,
  sessionId: string,
  now: number,
  change: (session: Session) => Session,
): Promise<Session> {
  const { rows } = await tx.query<SessionRow>({
    name: "session_lock",
    text: `select ${SESSION_COLUMNS} from sessions s
      where s.tenant = $1 and s.session_id = $2 and s.expires_at > $3 for update`,
    values: [tx.scope.tenant, sessionId, new Date(now)],
  })
  const before = first(rows, sessionId)
  const after = change(before)
  if (after !== before) await tx.query(updateSession(tx.scope.tenant, after))
  return after
}

async function eraseSession(tx: Tx, sessionId: string): Promise<boolean> {
  const values = [tx.scope.tenant, sessionId]
  const [, gone] = await tx.pipeline([
    { text: "delete from session_messages where tenant = $1 and session_id = $2", values },
    { text: "delete from sessions where tenant = $1 and session_id = $2", values },
  ])
  return (gone?.count ?? 0) > 0
}

const SWEEP_SESSIONS = 100

async function sweepSessions(tx: Tx, now: number, limit: number): Promise<number> {
  const { rows } = await tx.query<{ tenant: string; session_id: string }>({
    name: "session_sweep_next",
    text: `select tenant, session_id from sessions where expires_at <= $1 order by expires_at limit $2 for update skip locked`,
    values: [new Date(now), Math.min(limit, SWEEP_SESSIONS)],
  })
  if (rows.length === 0) return 0
  const keys = [rows.map(({ tenant }) => tenant), rows.map(({ session_id }) => session_id)]
  const { count } = await tx.query({
    name: "session_sweep_messages",
    text: `delete from session_messages where (tenant, session_id, sequence) in (
      select m.tenant, m.session_id, m.sequence from unnest($1::text[], $2::text[]) as k(tenant, session_id)
      join session_messages m on m.tenant = k.tenant and m.session_id = k.session_id limit $3)`,
    values: [...keys, limit],
  })
  // With messages left, their sessions have to wait for the next run.
  if (count === limit) return count
  await tx.query({
    name: "session_sweep",
    text: `delete from sessions s using unnest($1::text[], $2::text[]) as k(tenant, session_id)
      where s.tenant = k.tenant and s.session_id = k.session_id`,
    values: keys,
  })
  return rows.length === Math.min(limit, SWEEP_SESSIONS) ? limit : count + rows.length
}
