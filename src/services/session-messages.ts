/** Sessions and their messages as messages of the API. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt"
import { checkEventJson, checkEventText, decodeJson, encodeJson } from "../domain/event/event-json.ts"
import { type ContentPart, decodeBody, type NewMessage } from "../domain/event/session-message.ts"
import {
  MAX_SESSION_METADATA_BYTES,
  MAX_SESSION_STATE_BYTES,
  type MessageRole,
  type Session,
  type SessionChange,
  type SessionDraft,
  type SessionExpiry,
  type SessionStatus,
  type StoredMessage,
} from "../domain/event/session-model.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import type { JsonObject } from "../domain/kernel/json.ts"
import {
  type ContentPartSchema,
  MessageRole as MessageRoleEnum,
  type NewMessageSchema,
  type SessionMessageSchema,
  SessionSchema,
  SessionStatus as SessionStatusEnum,
  type UpdateSessionRequest,
} from "../gen/keelplane/v1/session_service_pb.ts"
import { maskedFields } from "./field-mask.ts"
import { timeMessage, timeOf } from "./times.ts"

type SessionInput = MessageShape<typeof SessionSchema>

/** A session to be made. */
export function sessionDraftOf(
  session: SessionInput,
  defaultExpiry: SessionExpiry,
  newId: () => string,
): SessionDraft {
  for (const [field, text] of [
    ["session_id", session.sessionId],
    ["agent_id", session.agentId],
    ["user_id", session.userId],
    ["title", session.title],
  ] as const) {
    checkEventText(text, `session.${field}`)
  }
  return {
    sessionId: session.sessionId === "" ? newId() : session.sessionId,
    agentId: session.agentId,
    userId: session.userId,
    title: session.title,
    metadata: metadataOf(session),
    state: stateOf(session),
    expiry: expiryOf(session) ?? defaultExpiry,
  }
}

function metadataOf({ metadata = {} }: SessionInput): JsonObject {
  checkEventJson(metadata, "session.metadata")
  encodeJson(metadata, "session.metadata", MAX_SESSION_METADATA_BYTES)
  return metadata
}

function stateOf({ state = {} }: SessionInput): string {
  return encodeJson(state, "session.state", MAX_SESSION_STATE_BYTES)
}

function expiryOf({ expiration }: SessionInput): SessionExpiry | undefined {
  switch (expiration.case) {
    case "expireTime":
      return { kind: "at", expireMs: timeOf("session.expire_time", expiration.value) }
    case "ttl":
      return { kind: "ttl", ttlMs: Math.ceil(durationMs(expiration.value)) }
    default:
      return undefined
  }
}

/** What an update can change. */
const UPDATABLE = ["title", "metadata", "state", "expire_time", "ttl"]

/** What an update changes. */
export function sessionChangeOf(
  request: UpdateSessionRequest,
  session: SessionInput,
  defaultExpiry: SessionExpiry,
): SessionChange {
  const { statePatch, updateMask } = request
  const unmasked = (updateMask?.paths ?? []).length === 0
  if (unmasked && statePatch === undefined && !hasUpdatable(session)) {
    throw invalidField(
      "session",
      `sets nothing that can be changed: ${UPDATABLE.join(", ")}, or give a state_patch`,
    )
  }
  // A patch alone is something to change, so nothing need be set beside it.
  const masked =
    statePatch !== undefined && unmasked && !hasUpdatable(session)
      ? new Set<string>()
      : maskedFields(SessionSchema, session, updateMask, UPDATABLE)
  if (statePatch !== undefined && masked.has("state")) {
    throw invalidField("state_patch", "cannot be given together with a new state")
  }
  if (statePatch !== undefined) encodeJson(statePatch, "state_patch", MAX_SESSION_STATE_BYTES)
  if (masked.has("title")) checkEventText(session.title, "session.title")
  const expires = masked.has("expire_time") || masked.has("ttl")
  return {
    title: masked.has("title") ? session.title : undefined,
    metadata: masked.has("metadata") ? metadataOf(session) : undefined,
    state: masked.has("state") ? stateOf(session) : undefined,
    statePatch,
    expiry: expires ? (expiryOf(session) ?? defaultExpiry) : undefined,
  }
}

function hasUpdatable({ title, metadata, state, expiration }: SessionInput): boolean {
  return title !== "" || metadata !== undefined || state !== undefined || expiration.case !== undefined
}

/** The status asked for; undefined for any. */
export function statusOf(status: SessionStatusEnum): SessionStatus | undefined {
  if (status === SessionStatusEnum.ACTIVE) return "active"
  return status === SessionStatusEnum.ENDED ? "ended" : undefined
}

/** A session as callers see it. */
export function sessionMessage(session: Session): MessageInitShape<typeof SessionSchema> {
  return {
    sessionId: session.sessionId,
    agentId: session.agentId,
    userId: session.userId,
    title: session.title,
    metadata: session.metadata,
    state: decodeJson(session.state),
    status: session.status === "active" ? SessionStatusEnum.ACTIVE : SessionStatusEnum.ENDED,
    endReason: session.endReason,
    revision: session.revision,
    messageRevision: session.messageRevision,
    createTime: timestampFromMs(session.createdMs),
    updateTime: timestampFromMs(session.updatedMs),
    activeTime: timestampFromMs(session.activeMs),
    endTime: timeMessage(session.endedMs),
    expiration: { case: "expireTime", value: timestampFromMs(session.expireMs) },
    totalTokens: session.tokens,
  }
}

const ROLES: Readonly<Record<MessageRole, MessageRoleEnum>> = {
  user: MessageRoleEnum.USER,
  assistant: MessageRoleEnum.ASSISTANT,
  system: MessageRoleEnum.SYSTEM,
  tool: MessageRoleEnum.TOOL,
}

/** A message to append; `path` is where it is in the request. */
export function newMessageOf(message: MessageShape<typeof NewMessageSchema>, path: string): NewMessage {
  const role = (Object.keys(ROLES) as MessageRole[]).find((name) => ROLES[name] === message.role)
  if (role === undefined) throw invalidField(`${path}.role`, "is required")
  return {
    role,
    content: message.content.map((part, at) => partOf(part, `${path}.content[${at}]`)),
    toolCalls: message.toolCalls.map((call) => ({
      id: call.toolCallId,
      name: call.name,
      arguments: call.arguments,
    })),
    toolCallId: message.toolCallId,
    name: message.name,
    metadata: message.metadata,
    tokens: message.tokens && { input: message.tokens.input, output: message.tokens.output },
  }
}

function partOf({ part }: MessageShape<typeof ContentPartSchema>, path: string): ContentPart {
  switch (part.case) {
    case "text":
      return { kind: "text", text: part.value }
    case "json":
      return { kind: "json", value: part.value }
    case "media": {
      const { mimeType, source } = part.value
      if (source.case === "data") return { kind: "data", mimeType, bytes: source.value }
      if (source.case === "uri") return { kind: "uri", mimeType, uri: source.value }
    }
  }
  throw invalidField(path, "must have a part with content")
}

/** A message as callers see it. */
export function storedMessage(message: StoredMessage): MessageInitShape<typeof SessionMessageSchema> {
  const body = decodeBody(message.body)
  return {
    sequence: message.sequence,
    role: ROLES[message.role],
    content: body.content.map((part) => ({ part: partMessage(part) })),
    toolCalls: body.toolCalls.map((call) => ({
      toolCallId: call.id,
      name: call.name,
      arguments: call.arguments,
    })),
    toolCallId: body.toolCallId,
    name: body.name,
    metadata: body.metadata,
    tokens: message.tokens,
    createTime: timestampFromMs(message.createdMs),
  }
}

function partMessage(part: ContentPart): MessageInitShape<typeof ContentPartSchema>["part"] {
  switch (part.kind) {
    case "text":
      return { case: "text", value: part.text }
    case "json":
      return { case: "json", value: part.value }
    case "data":
      return {
        case: "media",
        value: { mimeType: part.mimeType, source: { case: "data", value: new Uint8Array(part.bytes) } },
      }
    case "uri":
      return { case: "media", value: { mimeType: part.mimeType, source: { case: "uri", value: part.uri } } }
  }
}
