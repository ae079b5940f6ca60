/** Sessions and their messages in Cassandra, as archives read and write them. */
import { createHash } from "node:crypto"
import type { Item, ItemOf } from "../../domain/archive/model.ts"
import type { Archive, ItemSink } from "../../domain/archive/ports.ts"
import type { Session as Conversation, MessageRole } from "../../domain/event/session-model.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { Cluster } from "./database.ts"
import { SessionIndex } from "./session-index.ts"
import { listSessions, readHead } from "./session-list.ts"
import { insertMessage, type MessageRow, writeHead } from "./session-rows.ts"
import { nextStamp } from "./stamp.ts"

const LIST_ROWS = 100
/** Rows that are read together; each may have a megabyte. */
const PAGE_ROWS = 4
/** Sessions that are written at once. */
const AT_ONCE = 16
const BATCH_BYTES = 1_048_576
const BATCH_ROWS = 100

/** The archive of sessions over a keyspace. */
export function createCassandraSessionArchive(cql: Cluster, clock: Clock = systemClock): Archive {
  const index = new SessionIndex(cql)
  return {
    plane: "sessions",
    engine: "cassandra",
    kinds: ["session", "message"],
    holds: async (scope) => {
      const found = await cql.read(scope, {
        cql: "select day from session_days where tenant = ? and owner = '' limit 1",
        values: [scope.tenant],
      })
      return found.length > 0
    },
    unfinished: async () => [],
    read: async (scope, sink) => {
      const now = clock.now()
      for await (const sessions of allSessions(cql, index, scope, now))
        await sink("session", sessions.map(sessionItem))
      for await (const sessions of allSessions(cql, index, scope, now))
        for (const { sessionId } of sessions) await readMessages(cql, scope, sessionId, sink)
    },
    write: async (scope, kind, items) => {
      // The use case hands each kind's items only.
      if (kind === "session") {
        const sessions = items as readonly ItemOf<"session">[]
        for (let at = 0; at < sessions.length; at += AT_ONCE) {
          const some = sessions.slice(at, at + AT_ONCE)
          await Promise.all(some.map((item) => writeSession(cql, index, scope, item)))
        }
        return
      }
      const messages = items as readonly ItemOf<"message">[]
      for (const [sessionId, own] of Map.groupBy(messages, (item) => item.sessionId))
        await writeMessages(cql, scope, sessionId, own)
    },
    finish: async () => [],
  }
}

async function* allSessions(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  now: number,
): AsyncGenerator<readonly Conversation[]> {
  let cursor: readonly string[] | undefined
  do {
    requireLive(scope)
    const page = await listSessions(cql, index, scope, { query: {}, page: { size: LIST_ROWS, cursor }, now })
    yield page.items
    cursor = page.next
  } while (cursor !== undefined)
}

function sessionItem(session: Conversation): ItemOf<"session"> {
  const { agentId, userId, sessionId, title, metadata, state, status, endReason, revision, expiry } = session
  return {
    agentId,
    userId,
    sessionId,
    title,
    metadata,
    state,
    status,
    endReason,
    revision,
    messageCount: session.messageRevision,
    inputTokens: session.tokens.input,
    outputTokens: session.tokens.output,
    createTime: session.createdMs,
    updateTime: session.updatedMs,
    activeTime: session.activeMs,
    endTime: session.endedMs ?? null,
    ttlMs: expiry.kind === "ttl" ? BigInt(expiry.ttlMs) : null,
    expireTime: session.expireMs,
  }
}

async function readMessages(
  cql: Cluster,
  scope: CallScope,
  sessionId: string,
  sink: ItemSink,
): Promise<void> {
  const { era } = await readHead(cql, scope, sessionId, true)
  const pages = cql.pages<MessageRow & { readonly size: number }>(
    scope,
    {
      cql: `select sequence, role, body, tokens_in, tokens_out, at, size from sessions
        where tenant = ? and session_id = ? and part = ?`,
      values: [scope.tenant, sessionId, era],
    },
    { pageRows: PAGE_ROWS },
  )
  for await (const page of pages) {
    const items: Item[] = page.map(({ sequence, role, body, tokens_in, tokens_out, at, size }) => ({
      sessionId,
      sequence,
      role,
      body,
      inputTokens: tokens_in,
      outputTokens: tokens_out,
      createTime: at.getTime(),
      size,
    }))
    await sink("message", items)
  }
}

/** The same for every attempt to import the session, so that a repetition finds what there is. */
function eraOf({ tenant }: CallScope, item: ItemOf<"session">): string {
  const text = JSON.stringify([tenant, item.sessionId, item.createTime])
  return createHash("sha256").update(text).digest("hex").slice(0, 32)
}

async function writeSession(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  item: ItemOf<"session">,
): Promise<void> {
  const session = sessionOf(item)
  const era = eraOf(scope, item)
  await index.file(scope, session, era)
  const { tenant } = scope
  const remindMs = session.expireMs
  const stamp = nextStamp(undefined)
  // Where an attempt before has written it, this changes nothing.
  await cql.cas(scope, [writeHead({ tenant, session, era, expected: null, stamp, remindMs })])
}

function sessionOf(item: ItemOf<"session">): Conversation {
  const { agentId, userId, sessionId, title, state, endReason, revision, ttlMs, expireTime } = item
  return {
    agentId,
    userId,
    sessionId,
    title,
    state,
    endReason,
    revision,
    // Only objects and these two words were ever kept.
    metadata: item.metadata as JsonObject,
    status: item.status as Conversation["status"],
    expiry: ttlMs === null ? { kind: "at", expireMs: expireTime } : { kind: "ttl", ttlMs: Number(ttlMs) },
    messageRevision: item.messageCount,
    tokens: { input: item.inputTokens, output: item.outputTokens },
    createdMs: item.createTime,
    updatedMs: item.updateTime,
    activeMs: item.activeTime,
    endedMs: item.endTime ?? undefined,
    expireMs: expireTime,
  }
}

async function writeMessages(
  cql: Cluster,
  scope: CallScope,
  sessionId: string,
  items: readonly ItemOf<"message">[],
): Promise<void> {
  const { era, session } = await readHead(cql, scope, sessionId, true)
  if (session === undefined) {
    throw new DomainError(
      "FAILED_PRECONDITION",
      `the archive has messages of session "${sessionId}" but no session`,
    )
  }
  let batch: ReturnType<typeof insertMessage>[] = []
  let bytes = 0
  for (const item of items) {
    if (batch.length === BATCH_ROWS || bytes + item.size > BATCH_BYTES) {
      if (batch.length > 0) await cql.batch(scope, batch)
      batch = []
      bytes = 0
    }
    batch.push(insertMessage(scope.tenant, sessionId, { era, ...placed(item) }))
    bytes += item.size
  }
  if (batch.length > 0) await cql.batch(scope, batch)
}

function placed({ sequence, createTime, role, body, inputTokens, outputTokens, size }: ItemOf<"message">) {
  const tokens =
    inputTokens === null || outputTokens === null ? undefined : { input: inputTokens, output: outputTokens }
  // Roles are those that were kept.
  const message = { role: role as MessageRole, body, tokens, size }
  return { sequence, createdMs: createTime, message }
}
