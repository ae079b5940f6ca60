/** The engine registry: which store names share which engine, opened only when configured. */
import { readFile } from "node:fs/promises"
import type { Config, SqlStoreConfig } from "../config/schema.ts"
import type { SqlEngine } from "../stores/postgres/index.ts"

/** The SQL stores of the configuration. */
export const SQL_STORES = ["memory", "events", "control"] as const

/** One of {@link SQL_STORES}. */
export type SqlStoreName = (typeof SQL_STORES)[number]

/** An open engine and the stores it serves. */
export interface OpenEngine {
  /** For people and metrics: the names of its stores joined by `+`, e.g. `memory+events+control`. */
  readonly name: string
  readonly stores: readonly SqlStoreName[]
  readonly sql: SqlEngine
}

/** How {@link openEngines} opens. */
export interface OpenOptions {
  /** Leaves a new embedded database without migrations, which otherwise come with its template. */
  readonly bare?: boolean
}

/** Opens every engine that the configuration names, each once, in parallel. Closes what is open when one fails. */
export async function openEngines(config: Config, options: OpenOptions = {}): Promise<readonly OpenEngine[]> {
  const groups = new Map<string, SqlStoreName[]>()
  for (const name of SQL_STORES) {
    const { url, password_file } = config.stores[name]
    const key = JSON.stringify([url.reveal(), password_file ?? ""])
    groups.set(key, [...(groups.get(key) ?? []), name])
  }
  const opening = [...groups.values()].map(async (stores): Promise<OpenEngine> => {
    const first = stores[0] ?? "control"
    return { name: stores.join("+"), stores, sql: await open(config, config.stores[first], options) }
  })
  const results = await Promise.allSettled(opening)
  const failed = results.find((result) => result.status === "rejected")
  const engines = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []))
  if (failed !== undefined) {
    await Promise.allSettled(engines.map(({ sql }) => sql.close()))
    throw failed.reason
  }
  return engines
}

async function open(config: Config, store: SqlStoreConfig, { bare }: OpenOptions): Promise<SqlEngine> {
  // Imported here, so that a daemon on a server never loads WebAssembly and an embedded one never loads the pool.
  if (store.url.reveal() === "embedded") {
    const { openEmbedded } = await import("../stores/postgres/open-embedded.ts")
    return openEmbedded({ dataDir: config.data_dir, ...(bare === true ? { clusterTemplate: "none" } : {}) })
  }
  const { openServer } = await import("../stores/postgres/open-server.ts")
  return openServer({ url: await urlWithPassword(store), max: store.pool_max })
}

async function urlWithPassword({ url, password_file }: SqlStoreConfig): Promise<string> {
  if (password_file === undefined) return url.reveal()
  const complete = new URL(url.reveal())
  complete.password = encodeURIComponent((await readFile(password_file, "utf8")).trim())
  return complete.toString()
}
