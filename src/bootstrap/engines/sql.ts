/** PostgreSQL, inside the daemon or on a server. */
import type { Config, SqlStoreConfig } from "../../config/schema.ts"
import { assertIsolation, createTenantEraser, type SqlEngine } from "../../stores/postgres/index.ts"
import { capabilityTexts, type OpenEngine, type StoreName } from "./engine.ts"
import { urlWithPassword } from "./password.ts"

/** How {@link openSql} opens. */
export interface SqlOpenOptions {
  /** Leaves a new embedded database without migrations, which otherwise come with its template. */
  readonly bare?: boolean
}

/** Opens the database of `stores`, which share the settings `store`. */
export async function openSql(
  config: Config,
  stores: readonly StoreName[],
  store: SqlStoreConfig,
  options: SqlOpenOptions,
): Promise<OpenEngine> {
  const sql = await openEngine(config, store, options)
  const { engine } = sql.capabilities
  return {
    name: stores.join("+"),
    stores,
    place: String(store.url),
    inThread: false,
    handle: { kind: "sql", sql },
    schema: { migrate: (how) => sql.migrate(how), list: () => sql.listMigrations() },
    describe: () => ({ engine, capabilities: capabilityTexts(sql.capabilities) }),
    ping: (scope) => sql.ping(scope),
    pool: () => sql.stats(),
    verify: () => assertIsolation(sql.database),
    eraser: createTenantEraser(sql.database, stores.join("+")),
    close: () => sql.close(),
  }
}

async function openEngine(
  config: Config,
  store: SqlStoreConfig,
  { bare }: SqlOpenOptions,
): Promise<SqlEngine> {
  // Imported here, so that a daemon on a server never loads WebAssembly and an embedded one never loads the pool.
  if (store.url.reveal() === "embedded") {
    const { openEmbedded } = await import("../../stores/postgres/open-embedded.ts")
    return openEmbedded({ dataDir: config.data_dir, ...(bare === true ? { clusterTemplate: "none" } : {}) })
  }
  const { openServer } = await import("../../stores/postgres/open-server.ts")
  return openServer({
    url: () => urlWithPassword(store),
    min: store.pool_min,
    max: store.pool_max,
    idleMs: store.pool_idle_ms,
    lifetimeMs: store.pool_lifetime_ms,
    acquireMs: store.pool_acquire_ms,
    connectMs: store.connect_timeout_ms,
    maxWaiting: store.pool_waiting,
    pooler: store.pooler,
    ...(store.prepare === undefined ? {} : { prepare: store.prepare }),
    migrationUrl: store.migration_url?.reveal(),
  })
}
