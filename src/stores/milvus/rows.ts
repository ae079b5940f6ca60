/** Records as rows of the server's collections. */

import type { RowData } from "@zilliz/milvus2-sdk-node"
import type { JsonObject } from "../../domain/kernel/json.ts"
import { structBytes } from "../../domain/kernel/json-size.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { wordsOf } from "../../domain/memory/keyword-rank.ts"
import type { Collection, MemoryRecord, RecordParts } from "../../domain/memory/model.ts"
import type { VectorRecord } from "../../domain/memory/vector-store.ts"
import type { ServerFeatures } from "./features.ts"
import { encodeAnyText } from "./literal.ts"

/** Stands for "never ends" in a row. */
export const NEVER_MS = Number.MAX_SAFE_INTEGER

/** Stands for the length of a text that is elsewhere. */
export const COPY = -1

/** The fields that a text may be spread over. */
export const TEXT_FIELDS = ["text0", "text1", "text2", "text3", "text4"] as const
/** What one of {@link TEXT_FIELDS} holds. */
export const TEXT_FIELD_BYTES = 65_535

/** Where the different words of a text are, on servers that can look them up: as they are compared, with blanks between them. */
export const WORDS_FIELD = "words"
/** Stands in {@link WORDS_FIELD} for words that it has no room for. No word has an underscore. */
const MORE_WORDS = "more_words"
/** Longer words are left out: indexes have limits of their own. */
const MAX_WORD_BYTES = 255

/** Whose rows these are. A tenant's id has no slash. */
export function ownerOf(scope: CallScope, collection: Pick<Collection, "ref">): string {
  return `${scope.tenant}/${collection.ref}`
}

/** A row's key: plain ASCII, in the byte order of the ids. */
export function encodeKey(owner: string, id: string): string {
  return `${owner}/${Buffer.from(id, "utf8").toString("hex")}`
}

/** The id in a key. */
export function decodeKey(key: string): string {
  return Buffer.from(key.slice(key.lastIndexOf("/") + 1), "hex").toString("utf8")
}

/** The condition that a row's text has one of the words, or may have. */
export function hasWords(words: readonly string[], features: ServerFeatures): string {
  const fitting = words.filter((word) => Buffer.byteLength(word) <= MAX_WORD_BYTES)
  return `text_match(${WORDS_FIELD}, ${encodeAnyText([...fitting, MORE_WORDS].join(" "), features)})`
}

function wordsField(text: string): string {
  let field = ""
  let isWhole = true
  let left = TEXT_FIELD_BYTES - MORE_WORDS.length - 1
  for (const word of new Set(wordsOf(text))) {
    const bytes = Buffer.byteLength(word) + 1
    if (bytes > left || bytes > MAX_WORD_BYTES + 1) {
      isWhole = false
      continue
    }
    field += field === "" ? word : ` ${word}`
    left -= bytes
  }
  return isWhole ? field : `${field} ${MORE_WORDS}`
}

/** A row as the driver takes it. `words`: the server's collection has a {@link WORDS_FIELD}. */
export function toRow(owner: string, record: VectorRecord, words: boolean): RowData {
  const row: RowData = {
    pk: encodeKey(owner, record.id),
    owner,
    revision: record.revision.toString(),
    create_ms: record.createTimeMs,
    update_ms: record.updateTimeMs,
    expire_ms: record.expireTimeMs ?? NEVER_MS,
    text_bytes: record.text === undefined ? COPY : Buffer.byteLength(record.text),
    metadata_bytes: structBytes(record.metadata),
    metadata: record.metadata,
    embedding: Array.from(record.vector),
  }
  const chunks = chunksOf(record.text ?? "")
  TEXT_FIELDS.forEach((name, i) => {
    row[name] = chunks[i] ?? ""
  })
  if (words) row[WORDS_FIELD] = wordsField(record.text ?? "")
  return row
}

/** Pieces of a text that fit into one field each; no character is cut in two. */
function chunksOf(text: string): readonly string[] {
  const bytes = Buffer.from(text, "utf8")
  const chunks: string[] = []
  for (let at = 0; at < bytes.length; ) {
    let end = Math.min(bytes.length, at + TEXT_FIELD_BYTES)
    // The bytes after a character's first one begin with 10.
    while (end < bytes.length && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
    chunks.push(bytes.toString("utf8", at, end))
    at = end
  }
  return chunks
}

const BASE_FIELDS = ["pk", "revision", "create_ms", "update_ms", "expire_ms"] as const

/** What to ask for in order to have these parts. */
export function fieldsOf(parts: RecordParts): string[] {
  return [
    ...BASE_FIELDS,
    ...(parts.text ? TEXT_FIELDS : []),
    ...(parts.metadata ? ["metadata"] : []),
    ...(parts.vector ? ["embedding"] : []),
  ]
}

/** What a row's text and metadata weigh, as it says itself. */
export const SIZE_FIELDS = ["text_bytes", "metadata_bytes"] as const

/** What to ask for where most texts fit into one field: {@link hasMoreText} tells of which that is not true. */
export function shortFieldsOf(parts: RecordParts): string[] {
  const [first] = TEXT_FIELDS
  return [...fieldsOf({ ...parts, text: false }), ...(parts.text ? [first] : []), ...SIZE_FIELDS]
}

/** Whether a row's text goes on beyond its first field. */
export function hasMoreText(row: Row): boolean {
  return Number(row.text_bytes) > TEXT_FIELD_BYTES
}

/** What a row's text and metadata weigh; it has its {@link SIZE_FIELDS}. */
export function weightOf(row: Row): number {
  return Math.max(0, Number(row.text_bytes)) + Number(row.metadata_bytes)
}

/** A row as ./messages reads it. */
export type Row = Readonly<Record<string, unknown>>

/** The record in a row. */
export function toRecord(row: Row, parts: RecordParts): MemoryRecord {
  const expireMs = Number(row.expire_ms)
  return {
    id: decodeKey(String(row.pk)),
    text: parts.text ? TEXT_FIELDS.reduce((text, name) => text + String(row[name] ?? ""), "") : undefined,
    metadata: parts.metadata ? (row.metadata as JsonObject) : undefined,
    vector: parts.vector ? (row.embedding as Float32Array) : undefined,
    revision: BigInt(row.revision as number | bigint),
    createTimeMs: Number(row.create_ms),
    updateTimeMs: Number(row.update_ms),
    expireTimeMs: expireMs >= NEVER_MS ? undefined : expireMs,
  }
}
