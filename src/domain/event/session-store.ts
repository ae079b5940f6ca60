/** The port to the session store. Every method may also reject with the reasons that all stores share (availability, deadline). */
import type { Filter } from "../kernel/filter/index.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type {
  AppendedMessages,
  MessageBatch,
  Session,
  SessionChange,
  SessionDraft,
  SessionStatus,
  StoredMessage,
} from "./session-model.ts"

/** About the most bytes that one list answers; one item is always answered. */
export const MAX_LIST_BYTES = 2_097_152

/** Conditions hold together; absent ones do not count. */
export interface SessionQuery {
  readonly agentId?: string | undefined
  readonly userId?: string | undefined
  readonly status?: SessionStatus | undefined
  /** Over {@link SESSION_FILTER_FIELDS}. */
  readonly filter?: Filter | undefined
}

/** The fields that a filter over sessions may name. */
export const SESSION_FILTER_FIELDS = {
  session_id: { type: "string" },
  agent_id: { type: "string" },
  user_id: { type: "string" },
  title: { type: "string" },
  metadata: { type: "json" },
  status: { type: "enum", values: ["active", "ended"] },
  end_reason: { type: "string" },
  revision: { type: "int" },
  message_revision: { type: "int" },
  create_time: { type: "timestamp" },
  update_time: { type: "timestamp" },
  active_time: { type: "timestamp" },
  end_time: { type: "timestamp" },
  expire_time: { type: "timestamp" },
} as const

/** Messages in one direction, with the session's message revision at that moment. */
export interface MessagePage extends Page<StoredMessage> {
  readonly messageRevision: bigint
}

/** Sessions and their messages. A session whose time has passed is seen by nothing, and its id is free. */
export interface SessionStore {
  /** Rejects with ALREADY_EXISTS. Honours scope.idempotency. */
  create(scope: CallScope, draft: SessionDraft): Promise<Session>

  /** Rejects with NOT_FOUND. */
  get(scope: CallScope, sessionId: string): Promise<Session>

  /**
   * Changes a session by the rule of apply-session-change. Honours scope.idempotency. Rejects with NOT_FOUND,
   * REVISION_MISMATCH, FAILED_PRECONDITION (a new state for an ended session), LIMIT_EXCEEDED (the merged state is too large).
   */
  update(
    scope: CallScope,
    sessionId: string,
    change: SessionChange,
    ifRevision: bigint | undefined,
  ): Promise<Session>

  /** Ends a session; ending it again answers it unchanged. Honours scope.idempotency. Rejects with NOT_FOUND, REVISION_MISMATCH. */
  end(scope: CallScope, sessionId: string, reason: string, ifRevision: bigint | undefined): Promise<Session>

  /** The most recently created first. Cut at about {@link MAX_LIST_BYTES}. */
  list(scope: CallScope, query: SessionQuery, page: PageRequest): Promise<Page<Session>>

  /**
   * Appends a batch, all or nothing. Honours scope.idempotency. Rejects with NOT_FOUND, SESSION_ENDED, REVISION_MISMATCH.
   */
  append(scope: CallScope, batch: MessageBatch): Promise<AppendedMessages>

  /** Pages through messages by sequence. Cut at about {@link MAX_LIST_BYTES}. Rejects with NOT_FOUND. */
  messages(scope: CallScope, sessionId: string, newestFirst: boolean, page: PageRequest): Promise<MessagePage>

  /** Removes a session with its messages at once, for the erasure of a subject. Answers whether it was there. */
  erase(scope: CallScope, sessionId: string): Promise<boolean>

  /**
   * Reclaims expired sessions with their messages, up to `limit` rows, of all tenants with the platform's scope.
   * @returns how many rows; fewer than `limit` means that none is left.
   */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** What the methods of {@link SessionStore} do. */
export const SESSION_STORE_OPERATIONS: Operations<SessionStore> = {
  create: "write",
  update: "write",
  end: "write",
  append: "write",
  erase: "write",
  sweep: "write",
  get: "read",
  list: "read",
  messages: "read",
}
