/** The rules of a session's life, free of any engine. */
import { DomainError, invalidField, limitExceeded, notFound, revisionMismatch } from "../kernel/errors.ts"
import { decodeJson, mergePatch } from "./event-json.ts"
import {
  MAX_SESSION_STATE_BYTES,
  type MessageBatch,
  type Session,
  type SessionChange,
  type SessionDraft,
  type SessionExpiry,
} from "./session-model.ts"
import { requireSessionSize } from "./session-size.ts"

/** A new session at `now`. Throws INVALID_FIELD where it would have expired already; LIMIT_EXCEEDED. */
export function newSession(draft: SessionDraft, now: number): Session {
  requireFuture(draft.expiry, now)
  requireSessionSize(draft, "session.state")
  return {
    ...draft,
    status: "active",
    endReason: "",
    revision: 1n,
    messageRevision: 0n,
    tokens: { input: 0n, output: 0n },
    createdMs: now,
    updatedMs: now,
    activeMs: now,
    endedMs: undefined,
    expireMs: expireMsOf(draft.expiry, now),
  }
}

function expireMsOf(expiry: SessionExpiry, activeMs: number): number {
  return expiry.kind === "at" ? expiry.expireMs : activeMs + expiry.ttlMs
}

function requireFuture(expiry: SessionExpiry | undefined, now: number): void {
  if (expiry?.kind === "at" && expiry.expireMs <= now) {
    throw invalidField("session.expire_time", "must lie in the future")
  }
}

/** The session as the change leaves it. Throws REVISION_MISMATCH, FAILED_PRECONDITION, LIMIT_EXCEEDED, INVALID_FIELD. */
export function applyChange(
  session: Session,
  change: SessionChange,
  ifRevision: bigint | undefined,
  now: number,
): Session {
  requireRevision(session, ifRevision)
  requireFuture(change.expiry, now)
  if (session.status === "ended" && (change.state !== undefined || change.statePatch !== undefined)) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `session "${session.sessionId}" has ended and its state cannot be changed`,
      { metadata: { resource: "session", name: session.sessionId, state: "ended" } },
    )
  }
  const changed = touched(
    {
      ...session,
      title: change.title ?? session.title,
      metadata: change.metadata ?? session.metadata,
      state: stateOf(session, change),
      expiry: change.expiry ?? session.expiry,
      revision: session.revision + 1n,
      updatedMs: Math.max(session.updatedMs, now),
    },
    now,
  )
  const field = contentField(change)
  if (field !== undefined) requireSessionSize(changed, field)
  return changed
}

/** The field that makes a session larger; undefined where none does. */
function contentField({ state, statePatch, metadata }: SessionChange): string | undefined {
  if (statePatch !== undefined) return "state_patch"
  if (state !== undefined) return "session.state"
  return metadata === undefined ? undefined : "session.metadata"
}

function stateOf(session: Session, change: SessionChange): string {
  if (change.statePatch === undefined) return change.state ?? session.state
  const state = decodeJson(session.state)
  mergePatch(state, change.statePatch)
  const text = JSON.stringify(state)
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_SESSION_STATE_BYTES) throw limitExceeded("state", bytes, MAX_SESSION_STATE_BYTES)
  return text
}

/** The session as its end leaves it; unchanged where it has ended already. Throws REVISION_MISMATCH. */
export function applyEnd(
  session: Session,
  reason: string,
  ifRevision: bigint | undefined,
  now: number,
): Session {
  if (session.status === "ended") return session
  requireRevision(session, ifRevision)
  const at = Math.max(session.updatedMs, now)
  return touched(
    {
      ...session,
      status: "ended",
      endReason: reason,
      endedMs: at,
      updatedMs: at,
      revision: session.revision + 1n,
    },
    now,
  )
}

/** The session as appended messages leave it. Throws NOT_FOUND, SESSION_ENDED, REVISION_MISMATCH. */
export function applyMessages(session: Session | undefined, batch: MessageBatch, now: number): Session {
  const { sessionId, messages, ifRevision } = batch
  if (session === undefined || session.expireMs <= now) throw notFound("session", sessionId)
  if (session.status === "ended") {
    throw new DomainError("SESSION_ENDED", `session "${sessionId}" has ended and takes no more messages`, {
      metadata: { session: sessionId },
    })
  }
  if (ifRevision !== undefined && ifRevision !== session.messageRevision) {
    throw revisionMismatch("session messages", sessionId, ifRevision, session.messageRevision)
  }
  let { input, output } = session.tokens
  for (const { tokens } of messages) {
    input += tokens?.input ?? 0n
    output += tokens?.output ?? 0n
  }
  const messageRevision = session.messageRevision + BigInt(messages.length)
  return touched({ ...session, messageRevision, tokens: { input, output } }, now)
}

function touched(session: Session, now: number): Session {
  const activeMs = Math.max(session.activeMs, now)
  return { ...session, activeMs, expireMs: expireMsOf(session.expiry, activeMs) }
}

function requireRevision(session: Session, ifRevision: bigint | undefined): void {
  if (ifRevision !== undefined && ifRevision !== session.revision) {
    throw revisionMismatch("session", session.sessionId, ifRevision, session.revision)
  }
}
