/** Queries without a vector: by key, by filter, all of it. Every read waits until it can see what was written before (Strong). */
import type { Filter } from "../../domain/kernel/filter/index.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import type { MemoryRecord, RecordParts } from "../../domain/memory/model.ts"
import { partsForFilter, recordMatches, unionParts } from "../../domain/memory/record-fields.ts"
import type { VectorPlace } from "../../domain/memory/vector-store.ts"
import type { Connection } from "./connection.ts"
import { MilvusStatusError } from "./errors.ts"
import { type Expression, ExpressionBuilder, encodeText } from "./expression.ts"
import { decodeQuery, encodeQuery, QUERY } from "./messages.ts"
import type { Places, Site } from "./places.ts"
import { encodeKey, fieldsOf, type Row, toRecord } from "./rows.ts"

/** Rows read at once: light ones, and those with texts or metadata, which may weigh 400 KB each; of those with vectors, so many bytes. */
const LIGHT_ROWS = 4_000
const HEAVY_ROWS = 64
const VECTOR_BYTES = 4 * 1024 * 1024
/** Most keys in one expression. */
const KEYS_AT_ONCE = 1_000

/** What a scan goes over. */
export interface ScanQuery {
  readonly filter: Filter | undefined
  readonly parts: RecordParts
  /** A condition of the server's own besides. */
  readonly condition?: string | undefined
  /** Undefined: expired records too. */
  readonly nowMs: number | undefined
  /** Begins after this id. */
  readonly after?: string | undefined
  /** Rows to read at once, where fewer than usual are needed. */
  readonly rows?: number | undefined
}

/** Reads rows. */
export class Reader {
  readonly #connection: Connection
  readonly #places: Places

  constructor(connection: Connection, places: Places) {
    this.#connection = connection
    this.#places = places
  }

  /** One query. A collection that the server has lost is made anew with the next call. */
  async query(
    scope: CallScope,
    site: Site,
    expression: Expression,
    fields: readonly string[],
    limit?: number,
  ): Promise<readonly Row[]> {
    try {
      const request = encodeQuery({ site, expression, fields }, limit)
      return (await this.#connection.read(scope, QUERY, request, decodeQuery)).rows
    } catch (error) {
      this.noteLoss(site, error)
      throw error
    }
  }

  /** Forgets a place that an error says is gone. */
  noteLoss(site: Site, error: unknown): void {
    const cause = error instanceof Error ? error.cause : undefined
    // The driver itself trips over a collection that is not there.
    if (cause instanceof TypeError || (cause instanceof MilvusStatusError && cause.isMissing)) {
      this.#places.forget(site)
    }
  }

  /** The builder of expressions for this site. */
  async builder(scope: CallScope, site: Site): Promise<ExpressionBuilder> {
    return new ExpressionBuilder(await this.#connection.serverFeatures(scope), site.owner)
  }

  /** Rows by key, in no order. */
  async byIds(
    scope: CallScope,
    site: Site,
    ids: readonly string[],
    fields: readonly string[],
    nowMs: number | undefined,
  ): Promise<readonly Row[]> {
    if (ids.length === 0) return []
    const builder = await this.builder(scope, site)
    return this.query(scope, site, builder.fence(nowMs, keysIn(site, ids)), fields)
  }

  /** How many rows an expression lets through. */
  async countRows(scope: CallScope, site: Site, expression: Expression): Promise<number> {
    const [row] = await this.query(scope, site, expression, ["count(*)"])
    return Number(row?.["count(*)"] ?? 0)
  }

  /** All records that satisfy the filter, in byte order of their ids, with at least the parts asked for. */
  async *scan(scope: CallScope, place: VectorPlace, query: ScanQuery): AsyncGenerator<MemoryRecord> {
    const site = await this.#places.ready(scope, place)
    const { exact } = (await this.builder(scope, site)).filter(query.filter)
    const parts =
      exact || query.filter === undefined
        ? query.parts
        : unionParts(query.parts, partsForFilter(query.filter))
    const size = Math.min(rowsAtOnce(parts, place.dimension), query.rows ?? LIGHT_ROWS)
    for await (const rows of this.#pages(scope, site, query, parts, size)) {
      for (const row of rows) {
        const record = toRecord(row, parts)
        if (exact || recordMatches(query.filter, record)) yield record
      }
      requireLive(scope)
    }
  }

  async *#pages(
    scope: CallScope,
    site: Site,
    query: ScanQuery,
    parts: RecordParts,
    size: number,
  ): AsyncGenerator<readonly Row[]> {
    const { orderedQueries } = await this.#connection.serverFeatures(scope)
    if (!orderedQueries)
      return yield* this.#unordered(scope, site, query, parts, Math.min(size, KEYS_AT_ONCE))
    let after = encodeKey(site.owner, query.after ?? "")
    for (;;) {
      const expression = await this.#from(scope, site, query, after)
      const rows = await this.query(scope, site, expression, fieldsOf(parts), size)
      // The order within the answer is not promised anywhere, that these are the smallest keys is what paging rests on.
      const sorted = rows.toSorted((a, b) => (String(a.pk) < String(b.pk) ? -1 : 1))
      if (sorted.length > 0) yield sorted
      if (rows.length < size) return
      after = String(sorted.at(-1)?.pk)
    }
  }

  /** For servers whose limited queries answer any rows: all keys first. */
  async *#unordered(
    scope: CallScope,
    site: Site,
    query: ScanQuery,
    parts: RecordParts,
    size: number,
  ): AsyncGenerator<readonly Row[]> {
    const expression = await this.#from(scope, site, query, encodeKey(site.owner, query.after ?? ""))
    const keys = (await this.query(scope, site, expression, ["pk"])).map((row) => String(row.pk)).sort()
    for (let at = 0; at < keys.length; at += size) {
      const some = keys.slice(at, at + size)
      const builder = await this.builder(scope, site)
      const fence = builder.fence(query.nowMs, `pk in [${some.map(encodeText).join(",")}]`)
      const rows = await this.query(scope, site, fence, fieldsOf(parts))
      yield rows.toSorted((a, b) => (String(a.pk) < String(b.pk) ? -1 : 1))
    }
  }

  async #from(scope: CallScope, site: Site, query: ScanQuery, after: string): Promise<Expression> {
    const builder = await this.builder(scope, site)
    const { text } = builder.filter(query.filter)
    return builder.fence(query.nowMs, text, query.condition, `pk > ${encodeText(after)}`)
  }
}

function rowsAtOnce(parts: RecordParts, dimension: number): number {
  if (parts.text || parts.metadata) return HEAVY_ROWS
  if (!parts.vector) return LIGHT_ROWS
  const rows = Math.floor(VECTOR_BYTES / (dimension * Float32Array.BYTES_PER_ELEMENT))
  return Math.max(HEAVY_ROWS, Math.min(LIGHT_ROWS, rows))
}

/** The condition that a row is one of these records. */
export function keysIn(site: Site, ids: readonly string[]): string {
  return `pk in [${ids.map((id) => encodeText(encodeKey(site.owner, id))).join(",")}]`
}
