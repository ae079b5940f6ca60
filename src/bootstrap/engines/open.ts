/** The engine registry: which stores share which engine, each opened once, in parallel, and only when configured. */
import type { Config, SqlStoreConfig } from "../../config/schema.ts"
import { openCache } from "./cache.ts"
import { openEvents } from "./cassandra.ts"
import { type OpenEngine, STORES, type StoreName } from "./engine.ts"
import { openSql, type SqlOpenOptions } from "./sql.ts"
import { openVectors } from "./vectors.ts"

/**
 * Opens every engine that the configuration names. Closes what is open when one fails; the error says which key is to blame.
 * Servers need not answer yet.
 */
export async function openEngines(
  config: Config,
  options: SqlOpenOptions = {},
): Promise<readonly OpenEngine[]> {
  const results = await Promise.allSettled(
    groups(config).map(async (stores): Promise<OpenEngine> => {
      try {
        return await openGroup(config, stores, options)
      } catch (cause) {
        throw blame(config, stores, cause)
      }
    }),
  )
  const failed = results.find((result) => result.status === "rejected")
  const engines = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []))
  if (failed !== undefined) {
    await Promise.allSettled(engines.map((engine) => engine.close()))
    throw failed.reason
  }
  return engines
}

/** Stores whose url and password are the same share an engine. */
function groups(config: Config): readonly (readonly StoreName[])[] {
  const byPlace = new Map<string, StoreName[]>()
  for (const name of STORES) {
    const { url, password_file } = config.stores[name]
    if (url.reveal() === "none") continue
    // The embedded cache is another engine than the embedded database.
    const key = JSON.stringify([name === "cache" ? "cache" : "", url.reveal(), password_file ?? ""])
    byPlace.set(key, [...(byPlace.get(key) ?? []), name])
  }
  return [...byPlace.values()]
}

async function openGroup(
  config: Config,
  stores: readonly StoreName[],
  options: SqlOpenOptions,
): Promise<OpenEngine> {
  const [first = "control"] = stores
  if (first === "cache") return openCache(config)
  if (first === "vectors") return openVectors(config)
  if (first === "events" && !isSql(config.stores.events.url.reveal())) return openEvents(config)
  return openSql(config, stores, pooled(config, stores, config.stores[first]), options)
}

/** One pool for all of them: as large as any of them wants it. */
function pooled(config: Config, stores: readonly StoreName[], first: SqlStoreConfig): SqlStoreConfig {
  const all = SQL_STORES.filter((name) => stores.includes(name)).map((name) => config.stores[name])
  return {
    ...first,
    pool_min: Math.max(...all.map(({ pool_min }) => pool_min)),
    pool_max: Math.max(...all.map(({ pool_max }) => pool_max)),
    pool_waiting: Math.max(...all.map(({ pool_waiting }) => pool_waiting)),
  }
}

const SQL_STORES = ["memory", "events", "control"] as const

const isSql = (url: string) => url === "embedded" || /^postgres(ql)?:/.test(url)

/** The failure of an engine with the key of its URL in front: what has to be changed first. */
export function blame(config: Config, stores: readonly StoreName[], cause: unknown): Error {
  const [first = "control"] = stores
  const why = cause instanceof Error ? cause.message : String(cause)
  if (config.stores[first].url.reveal() === "embedded") return cause instanceof Error ? cause : new Error(why)
  const keys = stores.map((store) => `stores.${store}.url`).join(", ")
  return new Error(`${keys} (${config.stores[first].url}): ${why}`, { cause })
}
