/** Approximate indexes of the Memory plane: made empty, then filled in steps. docs/adr has the reasons. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { IndexSpec } from "../../domain/memory/model.ts"
import type { IndexStep } from "../../domain/memory/ports.ts"
import type { Database, Tx } from "./database.ts"
import { lockCollection } from "./memory-collections.ts"
import { type CollectionRow, toCollection } from "./memory-rows.ts"

/** When collections get their index. */
export interface IndexPolicy {
  /** Records from which AUTO has an index. */
  readonly autoThreshold: number
  /** Records that may wait outside of a filled index before the background moves them in. */
  readonly lag: number
  /** Most indexes in one database; collections beyond it stay exact, for every write looks at every index' predicate. */
  readonly maxIndexes: number
}

const DEFAULT_M = 16
const DEFAULT_EF_CONSTRUCTION = 64
/** Records that an inverted file needs to learn its clusters from. */
const IVF_LEAST_RECORDS = 1000
const ALL = 2_147_483_647
const MAX_INDEX_DIMENSION = 2000
const MAX_HALF_INDEX_DIMENSION = 4000

/** Largest dimension with an index. */
export function maxIndexDimension(quantization: string): number {
  return quantization === "HALF" ? MAX_HALF_INDEX_DIMENSION : MAX_INDEX_DIMENSION
}

type Method =
  | { readonly kind: "HNSW"; readonly m: number; readonly efConstruction: number }
  | { readonly kind: "IVF_FLAT"; readonly lists: number }

function methodOf(spec: IndexSpec): Method | undefined {
  switch (spec.kind) {
    case "AUTO":
      return { kind: "HNSW", m: DEFAULT_M, efConstruction: DEFAULT_EF_CONSTRUCTION }
    case "FLAT":
      return undefined
    default:
      return spec
  }
}

/** See {@link MemoryStore.indexStep}. */
export function indexStep(
  database: Database,
  policy: IndexPolicy,
  scope: CallScope,
  id: string,
  batch: number,
  force: boolean,
): Promise<IndexStep> {
  return database.transaction(scope, async (tx) => {
    const row = await lockCollection(tx, id, undefined)
    const method = methodOf(toCollection(row).index)
    const idle: IndexStep = { state: row.index_state, moved: 0, done: true }
    if (method === undefined || row.dimension > maxIndexDimension(row.quantization)) return idle
    if (!(await waiting(tx, row, dueAt(policy, row, force)))) {
      // A step that moved exactly the last records could not know it: they were a full batch.
      return row.index_state === "BUILDING" ? { ...idle, state: await setState(tx, row, method, true) } : idle
    }
    let moved = 0
    if (row.index_kind === null) {
      if (!(await hasRoom(tx, policy))) return idle
      moved += await begin(tx, row, method)
    }
    const added = await moveIn(tx, row, batch)
    const done = added < batch
    return { state: await setState(tx, row, method, done), moved: moved + added, done }
  })
}

async function setState(
  tx: Tx,
  row: CollectionRow,
  method: Method,
  done: boolean,
): Promise<CollectionRow["index_state"]> {
  const state = done || row.index_state === "READY" ? "READY" : "BUILDING"
  if (done) await tx.query({ text: "select memory_analyze()" })
  if (state !== row.index_state || row.index_kind === null) {
    await tx.query({
      text: "update memory_collections set index_kind = $3, index_state = $4 where tenant = $1 and key = $2",
      values: [tx.scope.tenant, row.key, method.kind, state],
    })
  }
  return state
}

/** How many records must wait outside of the index for a step to be worth its while. */
function dueAt(policy: IndexPolicy, row: CollectionRow, force: boolean): number {
  if (force || row.index_state === "BUILDING") return 1
  if (row.index_kind !== null) return policy.lag
  if (row.index_spec.kind === "AUTO") return policy.autoThreshold
  return row.index_spec.kind === "IVF_FLAT" ? IVF_LEAST_RECORDS : 1
}

/** Whether at least `least` records wait. Counts no further than that. */
async function waiting(tx: Tx, row: CollectionRow, least: number): Promise<boolean> {
  const { rows } = await tx.query<{ due: boolean }>({
    text: `select count(*) >= $3::bigint as due from (select from memory_records
      where tenant = $1 and collection_key = $2 and not indexed limit $3) waiting`,
    values: [tx.scope.tenant, row.key, least],
  })
  return rows[0]?.due === true
}

async function hasRoom(tx: Tx, policy: IndexPolicy): Promise<boolean> {
  const { rows } = await tx.query<{ indexes: bigint }>({
    text: "select count(*) as indexes from pg_index i where i.indrelid = 'memory_records'::regclass",
  })
  return Number(rows[0]?.indexes ?? 0n) < policy.maxIndexes
}

/** Makes the index; an HNSW graph begins empty, an inverted file must see its records first. Answers how many are in it. */
async function begin(tx: Tx, row: CollectionRow, method: Method): Promise<number> {
  if (method.kind === "HNSW") {
    await tx.query({
      text: "select memory_create_index($1, 'HNSW', $2, $3, 0)",
      values: [row.key, method.m, method.efConstruction],
    })
    return 0
  }
  const records = await moveIn(tx, row, ALL)
  const lists = method.lists > 0 ? method.lists : Math.min(32_768, Math.max(10, Math.ceil(records / 1000)))
  await tx.query({ text: "select memory_create_index($1, 'IVF_FLAT', 0, 0, $2)", values: [row.key, lists] })
  return records
}

async function moveIn(tx: Tx, row: CollectionRow, batch: number): Promise<number> {
  const { count } = await tx.query({
    text: `update memory_records set indexed = true where ctid = any(array(select ctid from memory_records
      where tenant = $1 and collection_key = $2 and not indexed limit $3 for update skip locked))`,
    values: [tx.scope.tenant, row.key, batch],
  })
  return count
}

/** See {@link MemoryStore.dropIndex}. */
export function dropIndex(database: Database, scope: CallScope, id: string): Promise<void> {
  return database.transaction(scope, async (tx) => {
    const row = await lockCollection(tx, id, undefined)
    if (row.index_kind === null) return
    await tx.query({ text: "select memory_drop_index($1)", values: [row.key] })
    await tx.query({
      text: "update memory_records set indexed = false where tenant = $1 and collection_key = $2 and indexed",
      values: [scope.tenant, row.key],
    })
    await tx.query({
      text: "update memory_collections set index_kind = null, index_state = 'EXACT' where tenant = $1 and key = $2",
      values: [scope.tenant, row.key],
    })
  })
}

/** See {@link MemoryStore.indexBacklog}. */
export async function indexBacklog(
  database: Database,
  policy: IndexPolicy,
  scope: CallScope,
): Promise<readonly { readonly tenant: string; readonly id: string }[]> {
  // Counting stops as soon as the answer is known, so that a run over many small collections stays cheap.
  const { rows } = await database.query<{ tenant: string; id: string }>(scope, {
    text: `select c.tenant, c.id from memory_collections c cross join lateral (
        select case when c.index_kind is not null then case c.index_state when 'READY' then $1::bigint else 1 end
          else case c.index_spec ->> 'kind' when 'AUTO' then $2::bigint when 'IVF_FLAT' then $3::bigint else 1 end
        end as due) threshold
      where c.index_spec ->> 'kind' <> 'FLAT'
        and c.dimension <= case c.quantization when 'HALF' then $4::int else $5::int end
        and (select count(*) from (select from memory_records r where r.tenant = c.tenant
          and r.collection_key = c.key and not r.indexed limit due) waiting) >= due
      order by c.key`,
    values: [
      policy.lag,
      policy.autoThreshold,
      IVF_LEAST_RECORDS,
      MAX_HALF_INDEX_DIMENSION,
      MAX_INDEX_DIMENSION,
    ],
  })
  return rows
}
