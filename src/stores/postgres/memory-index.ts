/** Approximate indexes of the Memory plane: made empty, then filled in steps. docs/adr has the reasons. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { IndexSpec } from "../../domain/memory/model.ts"
import type { IndexStep } from "../../domain/memory/ports.ts"
import type { Database, Tx } from "./database.ts"
import { lockCollection } from "./memory-collections.ts"
import {
  type Built,
  buildIndex,
  type Maintenance,
  type Method,
  orphanedIndexes,
  removeIndex,
} from "./memory-index-build.ts"
import { type CollectionRow, toCollection } from "./memory-rows.ts"
import { lockedStep } from "./partitions.ts"

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

/** What index work needs. */
export interface Indexing {
  readonly database: Database
  readonly policy: IndexPolicy
  /** Where it is there, indexes are made over all records at once, while writers go on; else they fill in steps. */
  readonly maintenance: Maintenance | undefined
}

/** A step, and the build that must follow it outside of its transaction. */
interface PlannedStep extends IndexStep {
  readonly build?: { readonly row: CollectionRow; readonly method: Method; readonly rebuild: boolean }
}

/** See {@link MemoryStore.indexStep}. */
export async function indexStep(
  indexing: Indexing,
  scope: CallScope,
  id: string,
  batch: number,
  force: boolean,
): Promise<IndexStep> {
  const { database, policy, maintenance } = indexing
  const planned = await database.transaction(scope, async (tx): Promise<PlannedStep> => {
    const row = await lockCollection(tx, id, undefined)
    const method = methodOf(toCollection(row).index)
    const idle: IndexStep = { state: row.index_state, moved: 0, done: true }
    if (method === undefined || row.dimension > maxIndexDimension(row.quantization)) return idle
    const building = row.index_state === "BUILDING"
    if (!(await waiting(tx, row, dueAt(policy, row, force))) && !building) return idle
    if (row.index_kind === null && !building && !(await hasRoom(tx, policy))) return idle
    if (maintenance === undefined) return fill(tx, row, method, batch)
    if (row.index_state === "READY") return topUp(tx, row, batch)
    return gather(tx, row, method, Math.max(batch, GATHERED_RECORDS))
  })
  const { build, ...step } = planned
  if (build === undefined || maintenance === undefined) return step
  const built = await buildIndex(maintenance, scope, build.row, build.method, build.rebuild)
  const state = await publish(database, scope, build.row, build.method, built)
  // What was written meanwhile waits for later steps: with writers that are faster than the index this would never end.
  return { ...step, state, done: true }
}

/** Records that become part of an index to be built, by step: one more version of each, no more. */
const GATHERED_RECORDS = 1000

/** Marks records for the index that is to be built; the last step of them is followed by the build. */
async function gather(tx: Tx, row: CollectionRow, method: Method, batch: number): Promise<PlannedStep> {
  const rebuild = row.index_kind !== null
  const moved = rebuild ? 0 : await moveIn(tx, row, batch)
  if (row.index_state !== "BUILDING") await mark(tx, row, null, "BUILDING")
  if (moved === batch) return { state: "BUILDING", moved, done: false }
  const sized =
    method.kind === "IVF_FLAT" ? { ...method, lists: await listsOf(tx, row, method.lists) } : method
  return { state: "BUILDING", moved, done: false, build: { row, method: sized, rebuild } }
}

/** Lets searches use the index that was built. Where only the owner may build and we are not, it is made the plain way. */
function publish(
  database: Database,
  scope: CallScope,
  row: CollectionRow,
  method: Method,
  built: Built,
): Promise<CollectionRow["index_state"]> {
  return database.transaction(scope, async (tx) => {
    const current = await lockCollection(tx, row.id, undefined)
    // Somebody else made it, or dropped it, or the collection is another one by now.
    if (current.key !== row.key || current.index_state !== "BUILDING") return current.index_state
    if (built === "denied") {
      await tx.query({ text: "select memory_drop_index($1)", values: [row.key] })
      await create(tx, row, method)
    }
    await mark(tx, row, method.kind, "READY")
    return "READY"
  })
}

async function mark(
  tx: Tx,
  row: CollectionRow,
  kind: CollectionRow["index_kind"],
  state: CollectionRow["index_state"],
): Promise<void> {
  await tx.query({
    text: "update memory_collections set index_kind = $3, index_state = $4 where tenant = $1 and key = $2",
    values: [tx.scope.tenant, row.key, kind, state],
  })
}

/** Moves records into an index that is there. A server analyses the table by itself. */
async function topUp(tx: Tx, row: CollectionRow, batch: number): Promise<IndexStep> {
  const moved = await moveIn(tx, row, batch)
  return { state: row.index_state, moved, done: moved < batch }
}

/** Makes the index where there is none, and moves records into it. */
async function fill(tx: Tx, row: CollectionRow, method: Method, batch: number): Promise<IndexStep> {
  const moved = row.index_kind === null ? await begin(tx, row, method) : 0
  const added = await moveIn(tx, row, batch)
  // A step that moves exactly the last records cannot know it: they were a full batch.
  const done = added < batch
  return { state: await setState(tx, row, method, done), moved: moved + added, done }
}

async function setState(
  tx: Tx,
  row: CollectionRow,
  method: Method,
  done: boolean,
): Promise<CollectionRow["index_state"]> {
  const state = done || row.index_state === "READY" ? "READY" : "BUILDING"
  if (done) await tx.query({ text: "select memory_analyze()" })
  if (state !== row.index_state || row.index_kind === null) await mark(tx, row, method.kind, state)
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
  const records = method.kind === "HNSW" ? 0 : await moveIn(tx, row, ALL)
  await create(tx, row, method)
  return records
}

async function create(tx: Tx, row: CollectionRow, method: Method): Promise<void> {
  const [m, efConstruction] = method.kind === "HNSW" ? [method.m, method.efConstruction] : [0, 0]
  const lists = method.kind === "HNSW" ? 0 : await listsOf(tx, row, method.lists)
  await tx.query({
    text: "select memory_create_index($1, $2, $3, $4, $5)",
    values: [row.key, method.kind, m, efConstruction, lists],
  })
}

/** The clusters of an inverted file: as asked for, or what suits the number of its records. */
async function listsOf(tx: Tx, row: CollectionRow, asked: number): Promise<number> {
  if (asked > 0) return asked
  const { rows } = await tx.query<{ records: bigint }>({
    text: "select count(*) as records from memory_records where tenant = $1 and collection_key = $2 and indexed",
    values: [tx.scope.tenant, row.key],
  })
  return Math.min(32_768, Math.max(10, Math.ceil(Number(rows[0]?.records ?? 0n) / 1000)))
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
export function dropIndex({ database, maintenance }: Indexing, scope: CallScope, id: string): Promise<void> {
  return database.transaction(scope, async (tx) => {
    const row = await lockCollection(tx, id, undefined)
    if (row.index_kind === null) return
    // The next step makes it anew beside the old one, which stays in use until then.
    if (maintenance !== undefined) return mark(tx, row, row.index_kind, "BUILDING")
    await tx.query({ text: "select memory_drop_index($1)", values: [row.key] })
    await tx.query({
      text: "update memory_records set indexed = false where tenant = $1 and collection_key = $2 and indexed",
      values: [scope.tenant, row.key],
    })
    await mark(tx, row, null, "EXACT")
  })
}

/** Removes indexes whose collection is gone. */
export async function removeOrphans({ database, maintenance }: Indexing, scope: CallScope): Promise<void> {
  if (maintenance === undefined) return
  for (const key of await orphanedIndexes(database, scope)) {
    if ((await removeIndex(maintenance, scope, key)) === "ready") continue
    await lockedStep(database, scope, { text: "select memory_drop_orphan($1) as step", values: [key] })
  }
}

/** See {@link MemoryStore.indexBacklog}. */
export async function indexBacklog(
  indexing: Indexing,
  scope: CallScope,
): Promise<readonly { readonly tenant: string; readonly id: string }[]> {
  const { database, policy } = indexing
  await removeOrphans(indexing, scope)
  // Counting stops as soon as the answer is known, so that a run over many small collections stays cheap.
  const { rows } = await database.query<{ tenant: string; id: string }>(scope, {
    text: `select c.tenant, c.id from memory_collections c cross join lateral (
        select case when c.index_state = 'BUILDING' then 0 when c.index_kind is not null then $1::bigint
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
