/** How many records large collections have, as of some seconds ago. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Collection } from "../../domain/memory/model.ts"
import type { Database } from "./database.ts"

const GOOD_FOR_MS = 10_000
const MOST_COLLECTIONS = 1_000

interface Size {
  readonly records: number
  readonly until: number
}

const sizes = new WeakMap<Database, Map<string, Size>>()

/** The number of the collection's records, counted at most ten seconds ago. */
export async function roughSize(
  database: Database,
  scope: CallScope,
  collection: Collection,
): Promise<number> {
  const known = sizes.get(database) ?? new Map<string, Size>()
  sizes.set(database, known)
  const now = performance.now()
  const size = known.get(collection.ref)
  if (size !== undefined && size.until > now) return size.records
  const { rows } = await database.query<{ records: bigint }>(scope, {
    name: "memory_rough_size",
    text: "select count(*) as records from memory_records where tenant = $1 and collection_key = $2::bigint",
    values: [scope.tenant, collection.ref],
  })
  const records = Number(rows[0]?.records ?? 0n)
  if (known.size >= MOST_COLLECTIONS) known.clear()
  known.set(collection.ref, { records, until: now + GOOD_FOR_MS })
  return records
}
