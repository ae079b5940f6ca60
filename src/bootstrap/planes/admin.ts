import type { LoadedConfig } from "../../config/load.ts"
import { listSettings } from "../../config/show.ts"
import type { EngineView, MigrationView } from "../../domain/admin/model.ts"
import type { DaemonControl } from "../../domain/admin/ports.ts"
import type { HealthRegistry } from "../../rpc/builtin/health-registry.ts"
import type { RpcServer } from "../../rpc/server-options.ts"
import { createAdminService } from "../../services/admin-service.ts"
import type { OpenEngine } from "../engines/engine.ts"
import type { Guards } from "../guards.ts"
import type { Kit, Plane } from "../kit.ts"
import type { StoreMonitor } from "../monitor.ts"
import type { Outboxes } from "../outboxes.ts"
import { version } from "../version.ts"

/** What AdminService shows and does. */
export interface AdminSources {
  readonly loaded: LoadedConfig
  readonly kit: Kit
  readonly engines: readonly OpenEngine[]
  readonly guards: Guards
  readonly monitor: StoreMonitor
  readonly outboxes: Outboxes
  /** The server, once it is made. */
  server(): RpcServer
  drain(): void
}

/** AdminService. */
export function adminPlane(sources: AdminSources): Plane {
  return {
    services: [
      createAdminService({
        daemon: daemonControl(sources),
        pages: sources.kit.pages,
        breakers: sources.guards.switches,
        outbox: sources.outboxes.operators,
      }),
    ],
    needs: [],
    sweepers: [],
    close: async () => {},
  }
}

function daemonControl(sources: AdminSources): DaemonControl {
  const { loaded, engines, guards, monitor, server, drain } = sources
  let draining = false
  return {
    status: async () => {
      const { health } = server()
      const views = await Promise.all(engines.map((engine) => engineView(engine, monitor)))
      return {
        version: version(),
        startMs: Math.round(performance.timeOrigin),
        uptimeMs: performance.now(),
        draining: draining || health.get("") === false,
        engines: views,
        breakers: guards.switches.list(),
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

async function engineView(each: OpenEngine, monitor: StoreMonitor): Promise<EngineView> {
  const { up, latencyMs } = await monitor.check(each)
  return {
    name: each.name,
    ...each.describe(),
    serving: up,
    latencyMs,
    migrations: up ? await summary(each) : undefined,
    pool: each.pool?.(),
  }
}

async function summary({ schema }: OpenEngine): Promise<EngineView["migrations"]> {
  if (schema === undefined) return undefined
  try {
    const all = await schema.list()
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

async function migrationViews({ name, schema }: OpenEngine): Promise<readonly MigrationView[]> {
  const all = (await schema?.list()) ?? []
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
