/**
 * Indexes that are built, rebuilt and dropped while writers go on, which a server can do only outside of transactions and as the
 * owner of the table. docs/adr has the reasons.
 */
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database } from "./database.ts"
import { scopeEnded, serverError } from "./errors.ts"
import { encode } from "./exchange.ts"
import type { CollectionRow } from "./memory-rows.ts"
import type { Session } from "./session.ts"

/**
 * Runs `work` on a connection whose role owns the schema, outside of any transaction: {@link SqlEngine.maintenance}. Undefined
 * where there is one connection for all, which a build in the background would block like any other.
 */
export type Maintenance = <T>(work: (session: Session) => Promise<T>) => Promise<T>

/** An index method with its parameters. */
export type Method =
  | { readonly kind: "HNSW"; readonly m: number; readonly efConstruction: number }
  | { readonly kind: "IVF_FLAT"; readonly lists: number }

/** What became of a build. */
export type Built = "ready" | "denied"

/** The advisory lock of whoever makes or drops indexes: two builds on one table would wait for each other. */
const LOCK = "71, 0"
const LOCK_POLL_MS = 250
const INSUFFICIENT_PRIVILEGE = "42501"

/**
 * Makes the collection's index over all records that are marked for it, or makes it anew where it exists and `rebuild` says so;
 * searches use the old one meanwhile. What an attempt that was cut short left behind is removed first. `denied` when the login
 * does not own the table: nothing was done. Ends with the scope.
 */
export function buildIndex(
  maintenance: Maintenance,
  scope: CallScope,
  row: CollectionRow,
  method: Method,
  rebuild: boolean,
): Promise<Built> {
  return alone(maintenance, scope, async (session) => {
    const valid = await removeLeftovers(session, row.key)
    if (valid && !rebuild) return
    // Lists are chosen for the number of records, which may be another by now.
    const anew = method.kind === "IVF_FLAT"
    if (valid && !anew) await session.script(`reindex index concurrently ${nameOf(row.key)}`)
    else {
      if (valid) await session.script(`drop index concurrently ${nameOf(row.key)}`)
      await session.script(definition(row, method))
    }
    await session.script(
      "analyze keelplane.memory_records (tenant, collection_key, id, indexed, expire_time)",
    )
  })
}

/** Drops the index of a collection that has none any more, whatever state it is in. */
export function removeIndex(maintenance: Maintenance, scope: CallScope, key: bigint): Promise<Built> {
  return alone(maintenance, scope, async (session) => {
    await removeLeftovers(session, key)
    await session.script(`drop index concurrently if exists ${nameOf(key)}`)
  })
}

/**
 * Indexes whose collection is gone or has no index any more: an end between two transactions leaves them behind. Those of
 * collections that are being built belong to their steps.
 */
export async function orphanedIndexes(database: Database, scope: CallScope): Promise<readonly bigint[]> {
  const { rows } = await database.query<{ key: bigint }>(scope, {
    name: "memory_orphaned_indexes",
    text: `select distinct substring(i.relname from '^memory_ann_([0-9]+)')::bigint as key
      from pg_index x join pg_class i on i.oid = x.indexrelid
      where x.indrelid = 'keelplane.memory_records'::regclass and i.relname ~ '^memory_ann_[0-9]+'
        and not exists (select from memory_collections c where c.index_state <> 'EXACT'
          and c.key = substring(i.relname from '^memory_ann_([0-9]+)')::bigint)`,
  })
  return rows.map(({ key }) => key)
}

/** One session at a time works on indexes. Waiting for it must not hold a snapshot, for a build waits for those. */
async function alone(
  maintenance: Maintenance,
  scope: CallScope,
  work: (session: Session) => Promise<void>,
): Promise<Built> {
  try {
    return await maintenance(async (session) => {
      const leave = (): void => session.destroy()
      scope.signal.addEventListener("abort", leave, { once: true })
      try {
        await session.script(LEAVES_WITH_US)
        await session.script(`set statement_timeout = ${left(scope)}`)
        while (!(await locked(session))) {
          await pause(LOCK_POLL_MS, scope.signal)
          if (scope.signal.aborted) throw scopeEnded(scope)
        }
        await work(session)
        return "ready" as const
      } catch (error) {
        if (scope.signal.aborted) throw scopeEnded(scope)
        throw error
      } finally {
        scope.signal.removeEventListener("abort", leave)
      }
    })
  } catch (error) {
    if (serverError(error)?.code === INSUFFICIENT_PRIVILEGE) return "denied"
    throw error
  }
}

/** Milliseconds for the server; 0 is no limit. */
function left(scope: CallScope): number {
  const ms = Math.ceil(scope.deadlineMs - Date.now())
  return Number.isFinite(ms) ? Math.min(Math.max(1, ms), 2_147_483_647) : 0
}

/** The server stops a build whose daemon has gone; not every system can tell. */
const LEAVES_WITH_US = `do $$ begin
  set client_connection_check_interval = '2s';
exception when invalid_parameter_value then null;
end $$`

/** The lock ends with the session. */
async function locked(session: Session): Promise<boolean> {
  const [result] = await session.run([encode({ text: `select pg_try_advisory_lock(${LOCK}) as locked` })])
  return result?.rows[0]?.locked === true
}

/** Removes what builds that were cut short left of this collection's index. Answers whether there is one that works. */
async function removeLeftovers(session: Session, key: bigint): Promise<boolean> {
  const [result] = await session.run([
    encode({
      text: `select i.relname as name, x.indisvalid as valid from pg_index x join pg_class i on i.oid = x.indexrelid
        where x.indrelid = 'keelplane.memory_records'::regclass and i.relname ~ $1`,
      values: [`^memory_ann_${key}(_cc(new|old)[0-9]*)?$`],
    }),
  ])
  const own = result?.rows ?? []
  for (const { name, valid } of own) {
    if (valid !== true) await session.script(`drop index concurrently if exists keelplane.${String(name)}`)
  }
  return own.some(({ name, valid }) => valid === true && name === `memory_ann_${key}`)
}

function nameOf(key: bigint): string {
  return `keelplane.memory_ann_${key}`
}

/** All names and numbers in it come from the collection's own row or are numbers of ours. */
function definition(row: CollectionRow, method: Method): string {
  const half = row.quantization === "HALF"
  const type = half ? "halfvec" : "vector"
  const operators = { COSINE: "cosine", L2: "l2", L1: "l1", INNER_PRODUCT: "ip" }[row.metric]
  const [access, parameters] =
    method.kind === "HNSW"
      ? ["hnsw", `m = ${method.m}, ef_construction = ${method.efConstruction}`]
      : ["ivfflat", `lists = ${method.lists}`]
  return `create index concurrently memory_ann_${row.key} on keelplane.memory_records
    using ${access} ((${half ? "embedding_half" : "embedding"}::${type}(${row.dimension})) ${type}_${operators}_ops)
    with (${parameters}) where collection_key = ${row.key} and indexed`
}
