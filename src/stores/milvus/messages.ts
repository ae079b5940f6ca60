/**
 * The requests and answers of Search and Query. The driver describes collections for each, builds trees of objects, and makes texts of
 * numbers; that is most of what a search costs the daemon. Everything else goes through the driver.
 */
import type { Expression } from "./expression.ts"
import type { Site } from "./places.ts"
import { fieldSize, Reader, varintSize, Writer } from "./protobuf.ts"
import type { Row } from "./rows.ts"

/** The method that {@link encodeSearch} is for. */
export const SEARCH = "/milvus.proto.milvus.MilvusService/Search"
/** The method that {@link encodeQuery} is for. */
export const QUERY = "/milvus.proto.milvus.MilvusService/Query"

/** What both requests say. */
export interface Request {
  readonly site: Site
  readonly expression: Expression
  readonly fields: readonly string[]
}

/** A search for the neighbours of each vector. */
export interface SearchRequest extends Request {
  readonly vectors: readonly Float32Array[]
  readonly limit: number
  /** The index's own. */
  readonly params: Readonly<Record<string, number>>
}

/** How a call went; see ./connection. */
export interface Status {
  readonly error_code: string
  readonly code: number
  readonly reason: string
}

/** What a search found: a list for each vector. Rows have their `score`. */
export interface SearchAnswer {
  readonly status: Status
  readonly lists: readonly (readonly Row[])[]
}

/** What a query found. */
export interface QueryAnswer {
  readonly status: Status
  readonly rows: readonly Row[]
}

const FLOAT_VECTOR = 101
const EXPRESSION = 1
/** The name of what is searched for, which servers take from nobody. */
const PLACEHOLDER = "$0"

/** Consistency is not written: its 0 is Strong. */
export function encodeSearch({ vectors, limit, params, ...request }: SearchRequest): Buffer {
  const { site, expression, fields } = request
  const writer = new Writer().text(3, site.collection)
  if (site.partition !== undefined) writer.text(4, site.partition)
  writer.text(5, expression.text)
  const values = vectors.reduce((sum, vector) => sum + fieldSize(3, vector.byteLength), 0)
  const placeholder = fieldSize(1, PLACEHOLDER.length) + varintSize(2 * 8) + varintSize(FLOAT_VECTOR) + values
  writer.message(6, fieldSize(1, placeholder)).message(1, placeholder)
  writer.text(1, PLACEHOLDER).number(2, FLOAT_VECTOR)
  for (const vector of vectors) writer.floats(3, vector)
  writer.number(7, EXPRESSION)
  for (const field of fields) writer.text(8, field)
  pair(writer, 9, "anns_field", "embedding")
  pair(writer, 9, "params", JSON.stringify(params))
  pair(writer, 9, "topk", String(limit))
  pair(writer, 9, "offset", "0")
  pair(writer, 9, "metric_type", "")
  pair(writer, 9, "ignore_growing", "false")
  for (const [name, value] of Object.entries(params)) pair(writer, 9, name, String(value))
  writer.number(12, vectors.length)
  return templates(writer, 18, expression).end()
}

/** See {@link encodeSearch}. */
export function encodeQuery({ site, expression, fields }: Request, limit: number | undefined): Buffer {
  const writer = new Writer().text(3, site.collection).text(4, expression.text)
  for (const field of fields) writer.text(5, field)
  if (site.partition !== undefined) writer.text(6, site.partition)
  if (limit !== undefined) pair(writer, 9, "limit", String(limit))
  return templates(writer, 13, expression).end()
}

function pair(writer: Writer, field: number, key: string, value: string): void {
  const bytes = fieldSize(1, Buffer.byteLength(key)) + fieldSize(2, Buffer.byteLength(value))
  writer.message(field, bytes).text(1, key).text(2, value)
}

function templates(writer: Writer, field: number, { values }: Expression): Writer {
  for (const [name, value] of Object.entries(values)) {
    const inner = fieldSize(4, Buffer.byteLength(value))
    writer.message(field, fieldSize(1, Buffer.byteLength(name)) + fieldSize(2, inner))
    writer.text(1, name).message(2, inner).text(4, value)
  }
  return writer
}

/** Reads the fields of a message; `take` answers false for those that it passes over. */
function read(reader: Reader, end: number, take: (tag: number) => boolean): void {
  while (reader.at < end) {
    const tag = reader.uint32()
    if (!take(tag)) reader.skip(tag)
  }
  if (reader.at !== end) throw new RangeError("the vector store's answer is no message")
}

/** The tag of a field that has a length. */
const long = (field: number) => field * 8 + 2
/** The tag of a field that is a varint. */
const plain = (field: number) => field * 8

/** What the server answered to {@link encodeSearch}. Throws where it is no such answer. */
export function decodeSearch(bytes: Buffer): SearchAnswer {
  const reader = new Reader(bytes)
  let status = NO_STATUS
  let lists: readonly (readonly Row[])[] = []
  read(reader, bytes.length, (tag) => {
    if (tag === long(1)) status = readStatus(reader)
    else if (tag === long(2)) lists = readResults(reader)
    else return false
    return true
  })
  return { status, lists }
}

/** What the server answered to {@link encodeQuery}. Throws where it is no such answer. */
export function decodeQuery(bytes: Buffer): QueryAnswer {
  const reader = new Reader(bytes)
  const columns: Column[] = []
  let status = NO_STATUS
  read(reader, bytes.length, (tag) => {
    if (tag === long(1)) status = readStatus(reader)
    else if (tag === long(2)) columns.push(readColumn(reader))
    else return false
    return true
  })
  const count = Math.max(0, ...columns.map(({ values }) => values.length))
  return { status, rows: rowsOf(columns, 0, count, undefined) }
}

const NO_STATUS: Status = { error_code: "Success", code: 0, reason: "" }

/** The older codes that say more than the newer ones beside them. */
const OLD_CODES: Readonly<Record<number, string>> = {
  0: "Success",
  3: "PermissionDenied",
  4: "CollectionNotExists",
  48: "ForceDeny",
  49: "RateLimit",
  53: "MemoryQuotaExhausted",
  54: "DiskQuotaExhausted",
  56: "NotReadyServe",
}

function readStatus(reader: Reader): Status {
  let old = 0
  let code = 0
  let reason = ""
  read(reader, reader.end(), (tag) => {
    if (tag === plain(1)) old = reader.uint32()
    else if (tag === long(2)) reason = reader.text()
    else if (tag === plain(3)) code = reader.int32()
    else return false
    return true
  })
  return { error_code: OLD_CODES[old] ?? `Error${old}`, code, reason }
}

interface Column {
  readonly name: string
  readonly values: readonly unknown[]
}

function readResults(reader: Reader): readonly (readonly Row[])[] {
  const columns: Column[] = []
  const scores: number[] = []
  const counts: number[] = []
  read(reader, reader.end(), (tag) => {
    if (tag === long(3)) columns.push(readColumn(reader))
    else if (tag === long(4)) for (const end = reader.end(); reader.at < end; ) scores.push(reader.float())
    else if (tag === long(6)) for (const end = reader.end(); reader.at < end; ) counts.push(reader.uint32())
    else return false
    return true
  })
  let from = 0
  return counts.map((count) => {
    const rows = rowsOf(columns, from, from + count, scores)
    from += count
    return rows
  })
}

function rowsOf(
  columns: readonly Column[],
  from: number,
  to: number,
  scores: readonly number[] | undefined,
): readonly Row[] {
  if (scores !== undefined && scores.length < to) throw new RangeError("the vector store left scores out")
  const rows: Record<string, unknown>[] = []
  for (let i = from; i < to; i++) {
    const row: Record<string, unknown> = { score: scores?.[i] }
    for (const { name, values } of columns) row[name] = values[i]
    rows.push(row)
  }
  return rows
}

function readColumn(reader: Reader): Column {
  let name = ""
  let values: readonly unknown[] = []
  read(reader, reader.end(), (tag) => {
    if (tag === long(2)) name = reader.text()
    else if (tag === long(3)) values = readScalars(reader)
    else if (tag === long(4)) values = readVectors(reader)
    else return false
    return true
  })
  return { name, values }
}

/** Whole numbers, texts and JSON: our collections have no others. */
function readScalars(reader: Reader): readonly unknown[] {
  const values: unknown[] = []
  const each = (take: (tag: number) => boolean) => read(reader, reader.end(), take)
  read(reader, reader.end(), (tag) => {
    if (tag === long(3)) each((inner) => inner === long(1) && readLongs(reader, values))
    else if (tag === long(6)) each((inner) => inner === long(1) && values.push(reader.text()) > 0)
    else if (tag === long(9)) each((inner) => inner === long(1) && values.push(readJson(reader)) > 0)
    else return false
    return true
  })
  return values
}

function readLongs(reader: Reader, values: unknown[]): true {
  for (const end = reader.end(); reader.at < end; ) values.push(reader.int64())
  return true
}

function readJson(reader: Reader): unknown {
  const text = reader.text()
  return text === "{}" ? {} : text === "" ? null : JSON.parse(text)
}

function readVectors(reader: Reader): readonly Float32Array[] {
  let dimension = 0
  let all: Float32Array = new Float32Array(0)
  read(reader, reader.end(), (tag) => {
    if (tag === plain(1)) dimension = reader.uint32()
    else if (tag === long(2))
      read(reader, reader.end(), (inner) => {
        if (inner !== long(1)) return false
        const end = reader.end()
        all = reader.floats((end - reader.at) / Float32Array.BYTES_PER_ELEMENT)
        return true
      })
    else return false
    return true
  })
  if (dimension === 0) return []
  // Each in memory of its own, so that none keeps all.
  return Array.from({ length: all.length / dimension }, (_, i) =>
    all.slice(i * dimension, (i + 1) * dimension),
  )
}
