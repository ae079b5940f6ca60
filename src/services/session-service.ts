/** SessionService. */
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { checkEventText } from "../domain/event/event-json.ts"
import { messageBatch } from "../domain/event/session-message.ts"
import { DEFAULT_SESSION_TTL_MS, type SessionExpiry } from "../domain/event/session-model.ts"
import { SESSION_FILTER_FIELDS, type SessionStore } from "../domain/event/session-store.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import { parseFilter } from "../domain/kernel/filter/index.ts"
import type { CallScope } from "../domain/kernel/scope.ts"
import { ByTenant } from "../domain/kernel/tenant-classes.ts"
import { uuid7 } from "../domain/kernel/uuid7.ts"
import {
  type ListMessagesRequest,
  MessageOrder,
  SessionService as SessionServiceDescriptor,
} from "../gen/keelplane/v1/session_service_pb.ts"
import { type CallContext, type Service, service } from "../rpc/handler.ts"
import type { Pages } from "./paging.ts"
import {
  newMessageOf,
  sessionChangeOf,
  sessionDraftOf,
  sessionMessage,
  statusOf,
  storedMessage,
} from "./session-messages.ts"

const SESSION_PAGE = { defaultSize: 50, maxSize: 500 }
const MESSAGE_PAGE = { defaultSize: 100, maxSize: 1000 }

/** What {@link createSessionService} needs. */
export interface SessionServiceDeps {
  readonly sessions: SessionStore
  readonly pages: Pages
  /** How long a session is kept after its last activity when nothing else is said, in milliseconds. Default: 30 days. */
  readonly defaultTtlMs?: ByTenant<number> | undefined
}

/** SessionService over a store. */
export function createSessionService({ sessions, pages, defaultTtlMs }: SessionServiceDeps): Service {
  const ttls = defaultTtlMs ?? new ByTenant(DEFAULT_SESSION_TTL_MS)
  const expiryOf = ({ tenant }: CallScope): SessionExpiry => ({ kind: "ttl", ttlMs: ttls.of(tenant) })
  return service(SessionServiceDescriptor, {
    createSession: async (req, ctx) => {
      if (req.session === undefined) throw invalidField("session", "is required")
      const draft = sessionDraftOf(req.session, expiryOf(ctx), uuid7)
      return { session: sessionMessage(await sessions.create(ctx, draft)) }
    },
    getSession: async (req, ctx) => ({
      session: sessionMessage(await sessions.get(ctx, idOf(req.sessionId))),
    }),
    updateSession: async (req, ctx) => {
      if (req.session === undefined || req.session.sessionId === "") {
        throw invalidField("session.session_id", "is required")
      }
      const id = idOf(req.session.sessionId, "session.session_id")
      const change = sessionChangeOf(req, req.session, expiryOf(ctx))
      return { session: sessionMessage(await sessions.update(ctx, id, change, req.ifRevisionMatch)) }
    },
    endSession: async (req, ctx) => {
      checkEventText(req.reason, "reason")
      const ended = await sessions.end(ctx, idOf(req.sessionId), req.reason, req.ifRevisionMatch)
      return { session: sessionMessage(ended) }
    },
    listSessions: async (req, ctx) => {
      checkEventText(req.agentId, "agent_id")
      checkEventText(req.userId, "user_id")
      const query = {
        agentId: req.agentId === "" ? undefined : req.agentId,
        userId: req.userId === "" ? undefined : req.userId,
        status: statusOf(req.status),
        filter: parseFilter(req.filter, SESSION_FILTER_FIELDS),
      }
      const page = await sessions.list(ctx, query, pages.request(ctx, req, SESSION_PAGE))
      return { sessions: page.items.map(sessionMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    appendMessages: async (req, ctx) => {
      const messages = req.messages.map((message, at) => newMessageOf(message, `messages[${at}]`))
      const batch = messageBatch(idOf(req.sessionId), messages, req.ifRevisionMatch)
      const appended = await sessions.append(ctx, batch)
      return {
        firstSequence: appended.firstSequence,
        messageRevision: appended.messageRevision,
        createTime: timestampFromMs(appended.createdMs),
        expireTime: timestampFromMs(appended.expireMs),
      }
    },
    listMessages: async (req, ctx) => {
      const id = idOf(req.sessionId)
      if (req.last > 0) return lastMessages(sessions, ctx, id, req)
      const newestFirst = req.order === MessageOrder.NEWEST_FIRST
      const page = await sessions.messages(ctx, id, newestFirst, pages.request(ctx, req, MESSAGE_PAGE))
      return {
        messages: page.items.map(storedMessage),
        nextPageToken: pages.token(ctx, req, page.next),
        messageRevision: page.messageRevision,
      }
    },
  })
}

function idOf(sessionId: string, field = "session_id"): string {
  checkEventText(sessionId, field)
  return sessionId
}

async function lastMessages(sessions: SessionStore, ctx: CallContext, id: string, req: ListMessagesRequest) {
  if (req.pageToken !== "" || req.pageSize !== 0 || req.order !== MessageOrder.UNSPECIFIED) {
    throw invalidField("last", "cannot be given together with page_size, page_token or order")
  }
  const page = await sessions.messages(ctx, id, true, { size: req.last })
  return {
    messages: page.items.toReversed().map(storedMessage),
    messageRevision: page.messageRevision,
    truncated: page.items.length < req.last && page.next !== undefined,
  }
}
