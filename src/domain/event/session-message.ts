/** What is said in a message, and its body as engines keep it: JSON text, written once. */
import { invalidField, limitExceeded } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import { encodeJson } from "./event-json.ts"
import {
  MAX_APPEND_MESSAGES,
  MAX_MESSAGES_BYTES,
  type MessageBatch,
  type MessageDraft,
  type MessageRole,
  type TokenCounts,
} from "./session-model.ts"
import { messageBytes } from "./session-size.ts"

/** One piece of a message. */
export type ContentPart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "json"; readonly value: JsonObject }
  | { readonly kind: "data"; readonly mimeType: string; readonly bytes: Uint8Array }
  | { readonly kind: "uri"; readonly mimeType: string; readonly uri: string }

/** A tool that the assistant wants to be called. */
export interface ToolCall {
  readonly id: string
  readonly name: string
  readonly arguments?: JsonObject | undefined
}

/** What is said. */
export interface MessageContent {
  readonly content: readonly ContentPart[]
  readonly toolCalls: readonly ToolCall[]
  /** Empty unless it is a tool's answer. */
  readonly toolCallId: string
  readonly name: string
  readonly metadata?: JsonObject | undefined
}

/** A message as a caller gives it. */
export interface NewMessage extends MessageContent {
  readonly role: MessageRole
  readonly tokens?: TokenCounts | undefined
}

/** The batch. Throws INVALID_FIELD or LIMIT_EXCEEDED naming the message. */
export function messageBatch(
  sessionId: string,
  messages: readonly NewMessage[],
  ifRevision: bigint | undefined,
): MessageBatch {
  if (messages.length === 0) throw invalidField("messages", "must have at least one message")
  if (messages.length > MAX_APPEND_MESSAGES) {
    throw limitExceeded("messages", messages.length, MAX_APPEND_MESSAGES)
  }
  const drafts = messages.map((message, at) => draftOf(message, `messages[${at}]`))
  const bytes = drafts.reduce((sum, { size }) => sum + size, 0)
  if (bytes > MAX_MESSAGES_BYTES) throw limitExceeded("messages", bytes, MAX_MESSAGES_BYTES)
  return { sessionId, messages: drafts, ifRevision }
}

/** What a message takes besides its body. */
const MESSAGE_OVERHEAD_BYTES = 64

function draftOf(message: NewMessage, path: string): MessageDraft {
  const { role, tokens } = message
  if (message.content.length === 0 && message.toolCalls.length === 0) {
    throw invalidField(`${path}.content`, "must have a part where there are no tool calls")
  }
  const body = encodeJson(bodyOf(message), path, MAX_MESSAGES_BYTES)
  const size = Math.max(Buffer.byteLength(body), messageBytes(message)) + MESSAGE_OVERHEAD_BYTES
  return { role, tokens, body, size }
}

function bodyOf(message: NewMessage): JsonObject {
  return {
    ...(message.content.length > 0 && { content: message.content.map(partOf) }),
    ...(message.toolCalls.length > 0 && {
      toolCalls: message.toolCalls.map(({ id, name, arguments: given }) => ({
        id,
        name,
        ...(given !== undefined && { arguments: given }),
      })),
    }),
    ...(message.toolCallId !== "" && { toolCallId: message.toolCallId }),
    ...(message.name !== "" && { name: message.name }),
    ...(message.metadata !== undefined && { metadata: message.metadata }),
  }
}

function partOf(part: ContentPart): JsonObject {
  if (part.kind !== "data") return { ...part }
  return { kind: "data", mimeType: part.mimeType, bytes: Buffer.from(part.bytes).toString("base64") }
}

/** What was said, from a body that {@link messageBatch} made. */
export function decodeBody(body: string): MessageContent {
  // Only this file writes bodies.
  const stored = JSON.parse(body) as Partial<StoredBody>
  return {
    content: (stored.content ?? []).map((part) =>
      part.kind === "data" ? { ...part, bytes: new Uint8Array(Buffer.from(part.bytes, "base64")) } : part,
    ),
    toolCalls: stored.toolCalls ?? [],
    toolCallId: stored.toolCallId ?? "",
    name: stored.name ?? "",
    metadata: stored.metadata,
  }
}

interface StoredBody extends Omit<MessageContent, "content"> {
  readonly content: readonly (
    | Exclude<ContentPart, { readonly kind: "data" }>
    | { readonly kind: "data"; readonly mimeType: string; readonly bytes: string }
  )[]
}
