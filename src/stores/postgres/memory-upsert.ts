/** Writing records of the Memory plane in SQL: many records, from many calls, in one statement. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { mirrorChanges } from "../../domain/memory/mirror.ts"
import type { Collection, RecordReceipt, RecordWrite } from "../../domain/memory/model.ts"
import type { Outcome } from "../group-commit.ts"
import type { Tx } from "./database.ts"
import { componentsParameter } from "./memory-rows.ts"
import { appendOutbox } from "./outbox-append.ts"

/** One call's records. */
export interface UpsertItem {
  readonly collection: Collection
  readonly records: readonly RecordWrite[]
}

/** A record beside the call it came with. */
interface Placed {
  readonly item: number
  readonly index: number
  readonly collection: Collection
  readonly record: RecordWrite
}

/**
 * Writes the records of several calls; all in one transaction. A call whose collection is gone fails alone. The same record in
 * two calls is written twice, in order, so that each gets its own revision.
 */
export async function upsertGroup(
  tx: Tx,
  clock: Clock,
  items: readonly UpsertItem[],
): Promise<readonly Outcome<readonly RecordReceipt[]>[]> {
  const alive = await lockCollections(tx, items)
  const receipts: RecordReceipt[][] = items.map(() => [])
  for (const wave of waves(items, alive)) {
    const written = await writeWave(tx, clock, wave, "replace")
    for (const { item, index, collection, record } of wave) {
      const receipt = written.get(placeKey(collection, record.id))
      if (receipt !== undefined) (receipts[item] ?? [])[index] = receipt
    }
  }
  oweCopies(
    tx,
    items.filter(({ collection }) => alive.has(collection.ref)),
  )
  return items.map(({ collection }, i) =>
    alive.has(collection.ref)
      ? { ok: true, value: receipts[i] ?? [] }
      : { ok: false, error: notFound("collection", collection.id) },
  )
}

/** Writes one call's records under their expectations. NOT_FOUND, REVISION_MISMATCH. */
export async function upsertChecked(
  tx: Tx,
  clock: Clock,
  item: UpsertItem,
): Promise<readonly RecordReceipt[]> {
  const { collection, records } = item
  const alive = await lockCollections(tx, [item])
  if (!alive.has(collection.ref)) throw notFound("collection", collection.id)
  await checkExpectations(tx, clock, item)
  const placed = records.map((record, index) => ({ item: 0, index, collection, record }))
  const creations = placed.filter(({ record }) => record.ifRevisionMatch === 0n)
  const others = placed.filter(({ record }) => record.ifRevisionMatch !== 0n)
  const written = new Map([
    ...(creations.length === 0 ? [] : await writeWave(tx, clock, creations, "create")),
    ...(others.length === 0 ? [] : await writeWave(tx, clock, others, "replace")),
  ])
  oweCopies(tx, [item])
  return records.map((record) => {
    const receipt = written.get(placeKey(collection, record.id))
    // Another connection made the record after the check: "create" leaves it alone.
    if (receipt === undefined) throw revisionMismatch("record", record.id, 0n, "another")
    return receipt
  })
}

/** Has the records of mirrored collections copied, by what is committed together with them. */
function oweCopies(tx: Tx, items: readonly UpsertItem[]): void {
  const mirrored = items.filter(({ collection }) => collection.storageMode === "MIRRORED")
  for (const [first, ...others] of Map.groupBy(mirrored, ({ collection }) => collection.ref).values()) {
    if (first === undefined) continue
    const ids = new Set([first, ...others].flatMap(({ records }) => records.map(({ id }) => id)))
    appendOutbox(tx, mirrorChanges(tx.scope.tenant, first.collection, [...ids]))
  }
}

/** Which of the collections still exist; they stay until the transaction ends. */
async function lockCollections(tx: Tx, items: readonly UpsertItem[]): Promise<ReadonlySet<string>> {
  const refs = [...new Set(items.map((item) => item.collection.ref))]
  const { rows } = await tx.query<{ key: bigint }>({
    name: "memory_lock_collections",
    text: "select key from memory_collections where tenant = $1 and key = any($2::bigint[]) order by key for key share",
    values: [tx.scope.tenant, refs],
  })
  return new Set(rows.map((row) => row.key.toString()))
}

async function checkExpectations(tx: Tx, clock: Clock, { collection, records }: UpsertItem): Promise<void> {
  const expecting = records.filter((record) => record.ifRevisionMatch !== undefined)
  if (expecting.length === 0) return
  const { rows } = await tx.query<{ id: string; revision: bigint; live: boolean }>({
    text: `select id, revision, expire_time is null or expire_time > $4::timestamptz as live from memory_records
      where tenant = $1 and collection_key = $2 and id = any($3::text[]) order by id for update`,
    values: [tx.scope.tenant, collection.ref, expecting.map((record) => record.id), new Date(clock.now())],
  })
  const current = new Map(rows.flatMap((row) => (row.live ? [[row.id, row.revision] as const] : [])))
  for (const { id, ifRevisionMatch } of expecting) {
    const actual = current.get(id) ?? 0n
    if (actual !== ifRevisionMatch) throw revisionMismatch("record", id, ifRevisionMatch ?? 0n, actual)
  }
  const expired = rows.flatMap((row) => (row.live ? [] : [row.id]))
  if (expired.length === 0) return
  await tx.query({
    text: "delete from memory_records where tenant = $1 and collection_key = $2 and id = any($3::text[])",
    values: [tx.scope.tenant, collection.ref, expired],
  })
}

function placeKey(collection: Collection, id: string): string {
  return `${collection.ref}/${id}`
}

/** Splits the calls so that no record comes twice in one statement, which SQL does not allow. */
function waves(items: readonly UpsertItem[], alive: ReadonlySet<string>): Placed[][] {
  const depth = new Map<string, number>()
  const result: Placed[][] = []
  items.forEach(({ collection, records }, item) => {
    if (!alive.has(collection.ref)) return
    records.forEach((record, index) => {
      const key = placeKey(collection, record.id)
      const wave = depth.get(key) ?? 0
      depth.set(key, wave + 1)
      const list = result[wave] ?? []
      result[wave] = list
      list.push({ item, index, collection, record })
    })
  })
  return result
}

// A record whose expiry has passed is as good as gone: what replaces it is new.
const REPLACE = `on conflict (tenant, collection_key, id) do update set body = excluded.body, metadata = excluded.metadata,
  embedding = excluded.embedding, embedding_half = excluded.embedding_half, revision = excluded.revision, indexed = false,
  writes = case when r.expire_time <= excluded.update_time then 1 else r.writes + 1 end,
  create_time = case when r.expire_time <= excluded.update_time then excluded.create_time else r.create_time end,
  update_time = excluded.update_time, expire_time = excluded.expire_time`

function insertText(mode: "create" | "replace"): string {
  return `insert into memory_records as r (tenant, collection_key, id, body, metadata, embedding, embedding_half, revision, writes,
      create_time, update_time, expire_time)
    select $1, n.key, n.id, n.body, n.metadata::jsonb,
      case when not n.half then (($7::real[])[n.first : n.last])::vector end,
      case when n.half then (($7::real[])[n.first : n.last])::vector::halfvec end,
      nextval('memory_revision'), 1, $2::timestamptz, $2::timestamptz, n.expires
    from unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $8::int[], $9::int[], $10::boolean[], $11::timestamptz[])
      as n (key, id, body, metadata, first, last, half, expires)
    order by n.key, n.id collate "C"
    ${mode === "create" ? "on conflict do nothing" : REPLACE}
    returning collection_key, id, revision, writes`
}

const TEXTS = { create: insertText("create"), replace: insertText("replace") } as const

async function writeWave(
  tx: Tx,
  clock: Clock,
  wave: readonly Placed[],
  mode: "create" | "replace",
): Promise<Map<string, RecordReceipt>> {
  const lasts: number[] = []
  let last = 0
  for (const { record } of wave) {
    last += record.vector.length
    lasts.push(last)
  }
  const { rows } = await tx.query<{ collection_key: bigint; id: string; revision: bigint; writes: number }>({
    name: `memory_${mode}_records`,
    text: TEXTS[mode],
    values: [
      tx.scope.tenant,
      new Date(clock.now()),
      wave.map(({ collection }) => collection.ref),
      wave.map(({ record }) => record.id),
      wave.map(({ record }) => record.text),
      wave.map(({ record }) => JSON.stringify(record.metadata)),
      componentsParameter(wave.map(({ record }) => record.vector)),
      wave.map(({ record }, i) => (lasts[i] ?? 0) - record.vector.length + 1),
      lasts,
      wave.map(({ collection }) => collection.quantization === "HALF"),
      wave.map(({ record }) => (record.expireTimeMs === undefined ? null : new Date(record.expireTimeMs))),
    ],
  })
  return new Map(
    rows.map((row) => [
      `${row.collection_key}/${row.id}`,
      { id: row.id, revision: row.revision, created: row.writes === 1 },
    ]),
  )
}

/** Roughly what a call's records weigh, for the limit of a group. */
export function upsertBytes({ records }: UpsertItem): number {
  let bytes = 0
  // A component takes eight bytes in a parameter.
  for (const record of records) bytes += record.text.length + record.vector.length * 8 + 256
  return bytes
}

/** Whether a call may share a transaction with others: it can neither fail for its own reasons nor be repeated. */
export function isGroupable(scope: CallScope, records: readonly RecordWrite[]): boolean {
  return scope.idempotency === undefined && records.every((record) => record.ifRevisionMatch === undefined)
}
