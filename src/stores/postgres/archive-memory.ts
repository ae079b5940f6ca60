/** Collections and their records in PostgreSQL, as archives read and write them. */
import type { Item, ItemOf } from "../../domain/archive/model.ts"
import type { Archive } from "../../domain/archive/ports.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { hasRows } from "./archive.ts"
import { type ItemQuery, readItems } from "./archive-read.ts"
import type { SqlEngine } from "./engine.ts"
import { encode } from "./exchange.ts"
import { componentsParameter } from "./memory-rows.ts"

/** The archive of the Memory plane in `engine`, without records that are elsewhere. */
export function createSqlMemoryArchive(
  engine: Pick<SqlEngine, "database" | "capabilities" | "asOwner">,
  clock: Clock = systemClock,
): Archive {
  const { database } = engine
  let newest = 0n
  return {
    plane: "memory",
    engine: engine.capabilities.engine,
    kinds: ["collection", "record"],
    holds: (scope) => hasRows(database, scope, ["memory_collections"]),
    unfinished: async () => [],
    read: (scope, sink) =>
      engine.asOwner((session) =>
        readItems(session, scope, queries(scope, new Date(clock.now())), (kind, items) =>
          sink(kind, kind === "record" ? items.map(withVector) : items),
        ),
      ),
    write: async (scope, kind, items) => {
      for (const { revision } of items) if ((revision as bigint) > newest) newest = revision as bigint
      const statement = kind === "collection" ? insertCollections(scope, items) : insertRecords(scope, items)
      await database.transaction(scope, async (tx) => {
        await tx.query(statement)
      })
    },
    finish: async () => {
      await engine.asOwner((session) => session.run([encode({ text: RAISE, values: [newest] })]))
      return []
    },
  }
}

/**
 * New revisions must come after those that were imported. Nothing is locked: whoever takes a number between the look and the
 * change takes one of the thousand that are left out.
 */
const RAISE = `select setval('keelplane.memory_revision', $1::bigint + 1000) from keelplane.memory_revision
  where last_value < $1::bigint`

function queries(scope: CallScope, now: Date): readonly ItemQuery[] {
  const values = [scope.tenant, now]
  const records = `from memory_collections c join memory_records r on r.tenant = c.tenant and r.collection_key = c.key
    where c.tenant = $1::text and (r.expire_time is null or r.expire_time > $2::timestamptz)`
  return [
    {
      kind: "collection",
      text: `select id, description, labels, dimension, metric, quantization, index_spec as index, embedder,
          storage_mode as "storageMode", default_ttl_ms as "defaultTtlMs", revision, create_time as "createTime",
          update_time as "updateTime"
        from memory_collections where tenant = $1::text and $2::timestamptz is not null order by id`,
      values,
    },
    {
      kind: "record",
      text: `select c.id as collection, r.id, r.body as text, r.metadata,
          vector_send(coalesce(r.embedding, r.embedding_half::vector)) as vector, r.revision, r.writes,
          r.create_time as "createTime", r.update_time as "updateTime", r.expire_time as "expireTime"
        ${records} order by r.collection_key, r.id`,
      largest: `select max(octet_length(r.body) + pg_column_size(r.metadata) + c.dimension * 4) as largest ${records}`,
      values,
    },
  ]
}

const HEADER_BYTES = 4
const FLOAT_BYTES = 4

/** pgvector answers a header and big-endian floats. */
function withVector(item: Item): Item {
  const floats = Buffer.from(item.vector as Buffer).subarray(HEADER_BYTES)
  return { ...item, vector: new Uint8Array(floats.swap32()) }
}

function insertCollections({ tenant }: CallScope, items: readonly Item[]) {
  const rows = (items as readonly ItemOf<"collection">[]).map((item) => ({
    ...item,
    defaultTtlMs: item.defaultTtlMs === null ? null : String(item.defaultTtlMs),
    revision: String(item.revision),
    createTime: new Date(item.createTime).toISOString(),
    updateTime: new Date(item.updateTime).toISOString(),
  }))
  return {
    text: `insert into memory_collections (tenant, id, description, labels, dimension, metric, quantization, index_spec, embedder,
        storage_mode, default_ttl_ms, revision, create_time, update_time)
      select $1, id, description, labels, dimension, metric, quantization, index, embedder, "storageMode", "defaultTtlMs",
        revision, "createTime", "updateTime"
      from json_to_recordset($2::json) as r (id text, description text, labels jsonb, dimension int, metric text,
        quantization text, index jsonb, embedder text, "storageMode" text, "defaultTtlMs" bigint, revision bigint,
        "createTime" timestamptz, "updateTime" timestamptz)
      on conflict do nothing`,
    values: [tenant, JSON.stringify(rows)],
  }
}

function insertRecords({ tenant }: CallScope, items: readonly Item[]) {
  const records = items as readonly ItemOf<"record">[]
  const column = <T>(pick: (record: ItemOf<"record">) => T): T[] => records.map(pick)
  const vectors = column(({ vector }) => floatsOf(vector))
  const lasts: number[] = []
  let last = 0
  for (const vector of vectors) {
    last += vector.length
    lasts.push(last)
  }
  return {
    text: `insert into memory_records (tenant, collection_key, id, body, metadata, embedding, embedding_half, revision, writes,
        create_time, update_time, expire_time)
      select $1, c.key, n.id, n.body, n.metadata::jsonb,
        case when c.quantization <> 'HALF' then (($2::real[])[n.first : n.last])::vector end,
        case when c.quantization = 'HALF' then (($2::real[])[n.first : n.last])::vector::halfvec end,
        n.revision, n.writes, n.created, n.updated, n.expires
      from unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::bigint[], $10::int[],
          $11::timestamptz[], $12::timestamptz[], $13::timestamptz[])
        as n (collection, id, body, metadata, first, last, revision, writes, created, updated, expires)
      join memory_collections c on c.tenant = $1 and c.id = n.collection
      on conflict do nothing`,
    values: [
      tenant,
      componentsParameter(vectors),
      column(({ collection }) => collection),
      column(({ id }) => id),
      column(({ text }) => text),
      column(({ metadata }) => JSON.stringify(metadata)),
      vectors.map((vector, at) => (lasts[at] ?? 0) - vector.length + 1),
      lasts,
      column(({ revision }) => revision),
      column(({ writes }) => writes),
      column(({ createTime }) => new Date(createTime)),
      column(({ updateTime }) => new Date(updateTime)),
      column(({ expireTime }) => (expireTime === null ? null : new Date(expireTime))),
    ],
  }
}

/** Whatever the bytes' place in their buffer and the machine's order of bytes. */
function floatsOf(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return Float32Array.from({ length: Math.floor(bytes.byteLength / FLOAT_BYTES) }, (_, at) =>
    view.getFloat32(at * FLOAT_BYTES, true),
  )
}
