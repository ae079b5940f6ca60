import type { LoadedConfig } from "../../config/load.ts"
import { listSettings } from "../../config/show.ts"
import type { EngineView, MigrationView } from "../../domain/admin/model.ts"
import type { DaemonControl } from "../../domain/admin/ports.ts"
import { PLATFORM_TENANT, systemScope } from "../../domain/kernel/scope.ts"
import type { HealthRegistry } from "../../rpc/builtin/health-registry.ts"
import type { RpcServer } from "../../rpc/server-options.ts"
import { createAdminService } from "../../services/admin-service.ts"
import type { OpenEngine } from "../engines.ts"
import type { Guards } from "../guards.ts"
import type { Kit, Plane, PlaneEngine } from "../kit.ts"
import type { StoreMonitor } from "../monitor.ts"
import { version } from "../version.ts"

/** What AdminService shows and does. */
export interface AdminSources {
  readonly loaded: LoadedConfig
  readonly kit: Kit
  readonly engines: readonly OpenEngine[]
  readonly planes: readonly Plane[]
  readonly guards: Guards
  readonly monitor: StoreMonitor
  /** The server, once it is made. */
  server(): RpcServer
  drain(): void
}

/** AdminService. */
export function adminPlane(sources: AdminSources): Plane {
  return {
    services: [createAdminService({ daemon: daemonControl(sources), pages: sources.kit.pages })],
    needs: [],
    sweepers: [],
    close: async () => {},
  }
}

function daemonControl(sources: AdminSources): DaemonControl {
  const { loaded, engines, planes, guards, monitor, server, drain } = sources
  let draining = false
  return {
    status: async () => {
      const { health } = server()
      const own = planes.flatMap(({ engine }) => (engine === undefined ? [] : [engine]))
      const views = await Promise.all([
        ...engines.map((engine) => engineView(engine, monitor)),
        ...own.map(planeEngineView),
      ])
      return {
        version: version(),
        startMs: Math.round(performance.timeOrigin),
        uptimeMs: performance.now(),
        draining: draining || health.get("") === false,
        engines: views,
        breakers: guards.breakers(),
        services: serviceViews(health),
        edge: server().stats(),
      }
    },
    settings: () => listSettings(loaded),
    migrations: async () => {
      const lists = await Promise.all(engines.map(migrationViews))
      return lists.flat()
    },
    drain: () => {
      draining = true
      drain()
    },
  }
}

/** How long an engine may take to answer before it counts as away, in milliseconds. */
const PING_TIMEOUT_MS = 2_000

async function planeEngineView({ name, engine, capabilities, ping }: PlaneEngine): Promise<EngineView> {
  const started = performance.now()
  const scope = systemScope(PLATFORM_TENANT, AbortSignal.timeout(PING_TIMEOUT_MS))
  const serving = await ping({ ...scope, deadlineMs: Date.now() + PING_TIMEOUT_MS }).then(
    () => true,
    () => false,
  )
  const latencyMs = serving ? performance.now() - started : undefined
  return { name, engine, serving, latencyMs, capabilities, migrations: undefined, pool: undefined }
}

async function engineView({ name, sql }: OpenEngine, monitor: StoreMonitor): Promise<EngineView> {
  const { up, latencyMs } = await monitor.check(name)
  const { engine, ...capabilities } = sql.capabilities
  return {
    name,
    engine,
    serving: up,
    latencyMs,
    capabilities: Object.fromEntries(
      Object.entries(capabilities).map(([key, value]) => [key, String(value)]),
    ),
    migrations: up ? await summary(sql) : undefined,
    pool: sql.stats(),
  }
}

async function summary(sql: OpenEngine["sql"]): Promise<EngineView["migrations"]> {
  try {
    const all = await sql.listMigrations()
    const applied = all.filter(({ appliedAt }) => appliedAt !== undefined)
    return {
      applied: applied.length,
      pending: all.length - applied.length,
      version: applied.at(-1)?.version ?? 0,
    }
  } catch {
    // The status must be readable most of all when something is wrong; ListMigrations says what it is.
    return undefined
  }
}

async function migrationViews({ name, sql }: OpenEngine): Promise<readonly MigrationView[]> {
  const all = await sql.listMigrations()
  return all.map(({ version: number, name: subject, checksum, appliedAt, durationMs }) => ({
    store: name,
    version: number,
    name: subject,
    checksum,
    appliedAtMs: appliedAt?.getTime(),
    durationMs,
  }))
}

function serviceViews(health: HealthRegistry) {
  return [...health.list()]
    .filter(([name]) => name !== "")
    .map(([name, serving]) => ({ name, serving }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}
