/** What sessions and messages weigh in an answer: bytes on the wire, which for numbers are several times those of their text. */
import { limitExceeded } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { structBytes } from "../kernel/json-size.ts"
import { decodeJson } from "./event-json.ts"
import type { ContentPart, MessageContent } from "./session-message.ts"
import { MAX_SESSION_BYTES, type Session, type SessionDraft } from "./session-model.ts"

/** Tags, lengths, times and counts. */
const FRAME_BYTES = 256

/** Bytes of a session in an answer, at most. */
export function sessionBytes(session: Session): number {
  const { sessionId, agentId, userId, title, endReason } = session
  return FRAME_BYTES + textBytes(sessionId, agentId, userId, title, endReason) + contentBytes(session)
}

/** Throws LIMIT_EXCEEDED on `field` where metadata and state are together too large to be answered. */
export function requireSessionSize(session: SessionDraft, field: string): void {
  const bytes = contentBytes(session)
  if (bytes > MAX_SESSION_BYTES) throw limitExceeded(field, bytes, MAX_SESSION_BYTES)
}

function contentBytes({ metadata, state }: SessionDraft): number {
  return structBytes(metadata) + structBytes(decodeJson(state))
}

/** Tags and lengths of a part or a tool call. */
const PART_BYTES = 24

/** Bytes of what a message says, at most, without its place, role, time and tokens. */
export function messageBytes(message: MessageContent): number {
  let bytes = textBytes(message.toolCallId, message.name) + PART_BYTES + objectBytes(message.metadata)
  for (const part of message.content) bytes += PART_BYTES + partBytes(part)
  for (const call of message.toolCalls) {
    bytes += PART_BYTES + textBytes(call.id, call.name) + objectBytes(call.arguments)
  }
  return bytes
}

function partBytes(part: ContentPart): number {
  switch (part.kind) {
    case "text":
      return textBytes(part.text)
    case "json":
      return structBytes(part.value)
    case "data":
      return textBytes(part.mimeType) + part.bytes.length
    case "uri":
      return textBytes(part.mimeType, part.uri)
  }
}

function objectBytes(object: JsonObject | undefined): number {
  return object === undefined ? 0 : structBytes(object)
}

function textBytes(...texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
}
