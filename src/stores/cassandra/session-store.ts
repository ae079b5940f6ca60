/** Sessions in Cassandra: a partition each, changed by compare-and-set on its head. */
import { applyChange, applyEnd, applyMessages, newSession } from "../../domain/event/apply-session-change.ts"
import { checkEventJson, checkEventText } from "../../domain/event/event-json.ts"
import type {
  AppendedMessages,
  Session as Conversation,
  MessageBatch,
  SessionChange,
  SessionDraft,
} from "../../domain/event/session-model.ts"
import type { SessionStore } from "../../domain/event/session-store.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { alreadyExists, notFound } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { createGroupCommit } from "../group-commit.ts"
import type { Cluster } from "./database.ts"
import { Requests } from "./requests.ts"
import { SessionChanges, type SessionItem } from "./session-change.ts"
import { SessionIndex } from "./session-index.ts"
import { listMessages, listSessions, readHead } from "./session-list.ts"
import { eraseSession, sweepSessions } from "./session-sweep.ts"

/** What {@link createCassandraSessionStore} is made of. */
export interface CassandraSessionStoreOptions {
  readonly cql: Cluster
  readonly clock: Clock
  /** Sessions that may be written to at once. Default 64. */
  readonly concurrency?: number | undefined
}

const GROUP_ITEMS = 100
/** A batch, which may have one item of this size and no other, stays far below what a server takes. */
const GROUP_BYTES = 1_048_576
const CONCURRENCY = 64

/** A {@link SessionStore} over `cql`. */
export function createCassandraSessionStore(options: CassandraSessionStoreOptions): SessionStore {
  const { cql, clock, concurrency = CONCURRENCY } = options
  const index = new SessionIndex(cql)
  const changes = new SessionChanges(cql, index, clock)
  const groups = createGroupCommit<SessionItem, unknown>({
    key: (scope, { sessionId }) => `${scope.tenant} ${sessionId}`,
    maxItems: GROUP_ITEMS,
    maxBytes: GROUP_BYTES,
    bytes: ({ bytes }) => bytes,
    concurrency,
    run: (scope, items) => changes.run(scope, items),
  })
  const requests = new Requests(cql)
  // A session keeps its own answers; a request_id that was used for another session is only known to all of them together.
  const added = (scope: CallScope, item: SessionItem): Promise<unknown> =>
    requests.guard(scope, item.operation, () => groups.add(scope, item))
  // An item's answer is what its `apply` gives, now or when it was first called.
  const changed = async (scope: CallScope, item: SessionItem) => {
    requireLive(scope)
    return (await added(scope, item)) as Conversation
  }
  return {
    create: async (scope, draft) => {
      checkDraft(draft)
      return changed(scope, creation(scope, draft))
    },
    get: async (scope, sessionId) => {
      const { session } = await readHead(cql, scope, sessionId, false)
      if (session === undefined || session.expireMs <= clock.now()) throw notFound("session", sessionId)
      return session
    },
    update: async (scope, sessionId, change, ifRevision) => {
      checkChange(change)
      const edit = (session: Conversation, now: number) => applyChange(session, change, ifRevision, now)
      return changed(scope, edition(scope, "updateSession", sessionId, edit))
    },
    end: async (scope, sessionId, reason, ifRevision) => {
      checkEventText(reason, "reason")
      const edit = (session: Conversation, now: number) => applyEnd(session, reason, ifRevision, now)
      return changed(scope, edition(scope, "endSession", sessionId, edit))
    },
    list: (scope, query, page) => listSessions(cql, index, scope, { query, page, now: clock.now() }),
    append: (scope, batch) => added(scope, addition(scope, batch)) as Promise<AppendedMessages>,
    messages: (scope, sessionId, newestFirst, page) =>
      listMessages(cql, scope, { sessionId, newestFirst, page }, clock.now()),
    erase: (scope, sessionId) => eraseSession(cql, index, scope, sessionId, clock.now()),
    sweep: (scope, limit) => sweepSessions(cql, index, scope, clock.now(), limit),
  }
}

function creation({ idempotency }: CallScope, draft: SessionDraft): SessionItem {
  const { sessionId } = draft
  return {
    idempotency,
    sessionId,
    operation: "createSession",
    bytes: Buffer.byteLength(draft.state) + Buffer.byteLength(JSON.stringify(draft.metadata)),
    apply: (before, now) => {
      if (before !== undefined) throw alreadyExists("session", sessionId)
      const session = newSession(draft, now)
      return { session, answer: session }
    },
  }
}

function edition(
  { idempotency }: CallScope,
  operation: string,
  sessionId: string,
  edit: (session: Conversation, now: number) => Conversation,
): SessionItem {
  return {
    idempotency,
    sessionId,
    operation,
    // What it comes to is not known yet, and a group of two has the same head but once.
    bytes: HEAD_BYTES,
    apply: (before, now) => {
      if (before === undefined) throw notFound("session", sessionId)
      const session = edit(before, now)
      return { session, answer: session }
    },
  }
}

const HEAD_BYTES = 4_096

function addition({ idempotency }: CallScope, batch: MessageBatch): SessionItem {
  const { sessionId, messages } = batch
  return {
    idempotency,
    sessionId,
    operation: "appendMessages",
    bytes: messages.reduce((sum, { size }) => sum + size, 0),
    apply: (before, now) => {
      const session = applyMessages(before, batch, now)
      const { activeMs: createdMs, expireMs, messageRevision } = session
      const firstSequence = messageRevision - BigInt(messages.length) + 1n
      return { session, messages, answer: { firstSequence, messageRevision, createdMs, expireMs } }
    },
  }
}

function checkDraft({ sessionId, agentId, userId, title, metadata }: SessionDraft): void {
  checkEventText(sessionId, "session.session_id")
  checkEventText(agentId, "session.agent_id")
  checkEventText(userId, "session.user_id")
  checkEventText(title, "session.title")
  checkEventJson(metadata, "session.metadata")
}

function checkChange({ title, metadata }: SessionChange): void {
  if (title !== undefined) checkEventText(title, "session.title")
  if (metadata !== undefined) checkEventJson(metadata, "session.metadata")
}
