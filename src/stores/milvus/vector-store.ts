/** The port over one server. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { compareUtf8, type Filter } from "../../domain/kernel/filter/index.ts"
import { structBytes } from "../../domain/kernel/json-size.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import { type CallScope, PLATFORM_TENANT } from "../../domain/kernel/scope.ts"
import {
  type Collection,
  ID_ONLY,
  type MemoryRecord,
  type RecordOrder,
  type RecordParts,
  recordCursor,
} from "../../domain/memory/model.ts"
import { partsForFilter, withParts } from "../../domain/memory/record-fields.ts"
import type { VectorPlace, VectorRecord, VectorStore } from "../../domain/memory/vector-store.ts"
import { MILVUS_CAPABILITIES } from "./capabilities.ts"
import type { Connection } from "./connection.ts"
import { encodeText } from "./expression.ts"
import type { Places } from "./places.ts"
import { keysIn, Reader } from "./reading.ts"
import { COPY, fieldsOf, toRecord, toRow } from "./rows.ts"
import { Searcher } from "./searching.ts"
import { Weights } from "./weights.ts"

/** Keys in one request, and the weight of rows in one. */
const KEYS_AT_ONCE = 1_000
const WRITE_BYTES = 8 * 1024 * 1024

type RecordQuery = Parameters<VectorStore["list"]>[2]

/** See the file's comment. */
export class MilvusVectorStore implements VectorStore {
  readonly capabilities = MILVUS_CAPABILITIES
  readonly #connection: Connection
  readonly #places: Places
  readonly #clock: Clock
  readonly #reader: Reader
  readonly #weights = new Weights()
  readonly #searcher: Searcher

  constructor(connection: Connection, places: Places, clock: Clock) {
    this.#connection = connection
    this.#places = places
    this.#clock = clock
    this.#reader = new Reader(connection, places)
    this.#searcher = new Searcher(connection, places, this.#reader, this.#weights, () => clock.now())
  }

  async prepare(scope: CallScope, place: VectorPlace): Promise<void> {
    await this.#places.ready(scope, place)
  }

  async write(scope: CallScope, place: VectorPlace, records: readonly VectorRecord[]): Promise<void> {
    const site = await this.#places.ready(scope, place)
    for (const { text = "", metadata } of records) {
      this.#weights.written(site.owner, Buffer.byteLength(text) + structBytes(metadata))
    }
    for (const batch of batches(records)) {
      await this.#change(scope, site, (client, timeout) =>
        client.upsert({
          collection_name: site.collection,
          ...(site.partition === undefined ? {} : { partition_name: site.partition }),
          data: batch.map((record) => toRow(site.owner, record, site.words)),
          timeout,
        }),
      )
    }
  }

  async remove(scope: CallScope, place: VectorPlace, ids: readonly string[]): Promise<void> {
    const site = await this.#places.ready(scope, place)
    for (let at = 0; at < ids.length; at += KEYS_AT_ONCE) {
      const keys = keysIn(site, ids.slice(at, at + KEYS_AT_ONCE))
      await this.#delete(scope, site, `owner == ${encodeText(site.owner)} and ${keys}`)
    }
  }

  async drop(scope: CallScope, place: VectorPlace): Promise<void> {
    const site = this.#places.site(scope, place)
    if (site.partition === undefined) return this.#places.dropCollection(scope, site.collection)
    await this.#places.ready(scope, place)
    await this.#delete(scope, site, `owner == ${encodeText(site.owner)}`)
  }

  async sweep(scope: CallScope, limit: number): Promise<number> {
    let swept = 0
    for (const collection of await this.#places.all(scope)) {
      if (swept >= limit) break
      await this.#places.load(scope, collection)
      const site = { collection, partition: undefined, owner: "" }
      const expired = `expire_ms <= ${Math.floor(this.#clock.now())}`
      const text = scope.tenant === PLATFORM_TENANT ? expired : `${expired} and ${ofTenant(scope)}`
      const most = Math.min(limit - swept, KEYS_AT_ONCE)
      const rows = await this.#reader.query(scope, site, { text, values: {} }, ["pk", "text_bytes"], most)
      // Some servers take a limit for a hint.
      const ended = rows.slice(0, most)
      if (ended.length === 0) continue
      const keys = ended.map((row) => String(row.pk))
      // Its expiry may have been moved since it was found.
      await this.#delete(scope, site, `${expired} and pk in [${keys.map(encodeText).join(",")}]`)
      swept += ended.filter((row) => Number(row.text_bytes) !== COPY).length
    }
    return swept
  }

  /** How many rows the scope's tenant has in all places, expired ones among them. */
  async countTenant(scope: CallScope): Promise<number> {
    let count = 0
    for (const collection of await this.#places.all(scope)) {
      await this.#places.load(scope, collection)
      const site = { collection, partition: undefined, owner: "" }
      count += await this.#reader.countRows(scope, site, { text: ofTenant(scope), values: {} })
    }
    return count
  }

  /** Takes out all rows of the scope's tenant and answers how many there were. */
  async eraseTenant(scope: CallScope): Promise<number> {
    const count = await this.countTenant(scope)
    for (const collection of await this.#places.all(scope)) {
      await this.#delete(scope, { collection, partition: undefined, owner: "" }, ofTenant(scope))
    }
    return count
  }

  async get(
    scope: CallScope,
    collection: Collection,
    ids: readonly string[],
    parts: RecordParts,
  ): Promise<readonly MemoryRecord[]> {
    const site = await this.#places.ready(scope, collection)
    const rows = await this.#reader.byIds(scope, site, ids, fieldsOf(parts), this.#clock.now())
    const byId = new Map(rows.map((row) => [String(row.pk), row]))
    const found = new Map(
      [...byId.values()].map((row) => toRecord(row, parts)).map((record) => [record.id, record]),
    )
    return ids.flatMap((id) => found.get(id) ?? [])
  }

  async weigh(
    scope: CallScope,
    collection: Collection,
    ids: readonly string[],
    parts: RecordParts,
  ): Promise<ReadonlyMap<string, number>> {
    const site = await this.#places.ready(scope, collection)
    const fields = [...fieldsOf(ID_ONLY), "text_bytes", "metadata_bytes"]
    const rows = await this.#reader.byIds(scope, site, ids, fields, this.#clock.now())
    const vector = parts.vector ? collection.dimension * Float32Array.BYTES_PER_ELEMENT : 0
    return new Map(
      rows.map((row) => [
        toRecord(row, ID_ONLY).id,
        (parts.text ? Number(row.text_bytes) : 0) +
          (parts.metadata ? Number(row.metadata_bytes) : 0) +
          vector,
      ]),
    )
  }

  async list(scope: CallScope, collection: Collection, query: RecordQuery): Promise<Page<MemoryRecord>> {
    const { order, page, parts, filter } = query
    const byId = order.by === "id" && !order.descending
    const first = byId
      ? await this.#firstById(scope, collection, filter, page, parts)
      : await this.#firstByScan(scope, collection, filter, order, page)
    const chosen = first.slice(0, page.size)
    // What goes between its choice and its reading shortens the page, and does not end the list.
    const last = first.length > page.size ? chosen.at(-1) : undefined
    const full = byId ? chosen : await this.#filled(scope, collection, chosen, parts)
    return {
      items: full.map((record) => withParts(record, parts)),
      next: last === undefined ? undefined : recordCursor(order, last),
    }
  }

  async count(scope: CallScope, collection: Collection, filter: Filter | undefined): Promise<number> {
    const site = await this.#places.ready(scope, collection)
    const builder = await this.#reader.builder(scope, site)
    const { text, exact } = builder.filter(filter)
    const nowMs = this.#clock.now()
    if (exact || filter === undefined) return this.#reader.countRows(scope, site, builder.fence(nowMs, text))
    let count = 0
    for await (const _ of this.#reader.scan(scope, collection, {
      filter,
      parts: partsForFilter(filter),
      nowMs,
    }))
      count++
    return count
  }

  search(...call: Parameters<VectorStore["search"]>): ReturnType<VectorStore["search"]> {
    return this.#searcher.search(...call)
  }

  async #firstById(
    scope: CallScope,
    collection: Collection,
    filter: Filter | undefined,
    page: PageRequest,
    parts: RecordParts,
  ): Promise<readonly MemoryRecord[]> {
    const records: MemoryRecord[] = []
    const scan = { filter, parts, nowMs: this.#clock.now(), after: page.cursor?.[0], rows: page.size + 1 }
    for await (const record of this.#reader.scan(scope, collection, scan)) {
      records.push(record)
      if (records.length > page.size) break
    }
    return records
  }

  /** The server knows one order only, so for the others the page is chosen out of all ids; its records are read afterwards. */
  async #firstByScan(
    scope: CallScope,
    collection: Collection,
    filter: Filter | undefined,
    order: RecordOrder,
    page: PageRequest,
  ): Promise<readonly MemoryRecord[]> {
    const compare = comparison(order)
    const cursor = page.cursor === undefined ? undefined : atCursor(order, page.cursor)
    let first: MemoryRecord[] = []
    const wanted = page.size + 1
    for await (const record of this.#reader.scan(scope, collection, {
      filter,
      parts: ID_ONLY,
      nowMs: this.#clock.now(),
    })) {
      if (cursor !== undefined && compare(record, cursor) <= 0) continue
      first.push(withParts(record, ID_ONLY))
      if (first.length >= 2 * wanted + KEYS_AT_ONCE) first = first.sort(compare).slice(0, wanted)
    }
    return first.sort(compare).slice(0, wanted)
  }

  async #filled(
    scope: CallScope,
    collection: Collection,
    chosen: readonly MemoryRecord[],
    parts: RecordParts,
  ): Promise<readonly MemoryRecord[]> {
    if (!parts.text && !parts.metadata && !parts.vector) return chosen
    const full: MemoryRecord[] = []
    for (let at = 0; at < chosen.length; at += KEYS_AT_ONCE) {
      const ids = chosen.slice(at, at + KEYS_AT_ONCE).map(({ id }) => id)
      full.push(...(await this.get(scope, collection, ids, parts)))
    }
    return full
  }

  #delete(scope: CallScope, site: ReturnType<Places["site"]>, filter: string): Promise<void> {
    return this.#change(scope, site, (client, timeout) =>
      client.deleteEntities({
        collection_name: site.collection,
        ...(site.partition === undefined ? {} : { partition_name: site.partition }),
        filter,
        timeout,
      }),
    )
  }

  async #change(
    scope: CallScope,
    site: ReturnType<Places["site"]>,
    send: (
      client: Parameters<Parameters<Connection["call"]>[2]>[0],
      timeoutMs: number,
    ) => Promise<{ status?: unknown }>,
  ): Promise<void> {
    try {
      await this.#connection.call(scope, "write", send)
    } catch (error) {
      this.#reader.noteLoss(site, error)
      throw error
    }
  }
}

type Ordered = Pick<MemoryRecord, "id" | "createTimeMs" | "updateTimeMs">

function comparison(order: RecordOrder): (a: Ordered, b: Ordered) => number {
  const sign = order.descending ? -1 : 1
  const time = (record: Ordered) => (order.by === "create_time" ? record.createTimeMs : record.updateTimeMs)
  return (a, b) => sign * ((order.by === "id" ? 0 : time(a) - time(b)) || compareUtf8(a.id, b.id))
}

function atCursor(order: RecordOrder, [id = "", time = "0"]: readonly string[]): Ordered {
  const at = order.by === "id" ? 0 : Number(time)
  return { id, createTimeMs: at, updateTimeMs: at }
}

/** The rows of all owners that are the tenant's: the slash that ends its id in theirs is followed by the digit 0. */
function ofTenant({ tenant }: CallScope): string {
  return `owner >= ${encodeText(`${tenant}/`)} and owner < ${encodeText(`${tenant}0`)}`
}

/** Splits records so that no request grows too large for the server. */
function* batches(records: readonly VectorRecord[]): Generator<readonly VectorRecord[]> {
  let batch: VectorRecord[] = []
  let bytes = 0
  for (const record of records) {
    const size =
      Buffer.byteLength(record.text ?? "") + record.vector.byteLength + JSON.stringify(record.metadata).length
    if (batch.length > 0 && bytes + size > WRITE_BYTES) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(record)
    bytes += size
  }
  if (batch.length > 0) yield batch
}
