/** AdminService: the daemon's own state on the wire. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { BreakerView, EngineView } from "../domain/admin/model.ts"
import type { DaemonControl } from "../domain/admin/ports.ts"
import { DomainError } from "../domain/kernel/errors.ts"
import { AdminService, BreakerState } from "../gen/keelplane/v1/admin_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import type { Pages } from "./paging.ts"

/** What {@link createAdminService} needs. */
export interface AdminServiceDeps {
  readonly daemon: DaemonControl
  readonly pages: Pages
}

const PAGE = { defaultSize: 100, maxSize: 1_000 }

const BREAKER_STATES = {
  closed: BreakerState.CLOSED,
  open: BreakerState.OPEN,
  half_open: BreakerState.HALF_OPEN,
}

/** AdminService over the daemon. */
export function createAdminService({ daemon, pages }: AdminServiceDeps): Service {
  return service(AdminService, {
    getStatus: async (_req, ctx) => {
      const { version, startMs, uptimeMs, draining, engines, breakers, services, edge } =
        await daemon.status(ctx)
      return {
        version,
        startTime: timestampFromMs(startMs),
        uptime: durationFromMs(Math.round(uptimeMs)),
        draining,
        engines: engines.map(engineMessage),
        breakers: breakers.map(breakerMessage),
        services: services.map(({ name, serving }) => ({ name, serving })),
        edge: { inFlightCount: edge.inFlight, streamCount: edge.streams, connectionCount: edge.connections },
      }
    },
    getConfiguration: () => ({ settings: daemon.settings().map((setting) => ({ ...setting })) }),
    listMigrations: async (req, ctx) => {
      const { size, cursor } = pages.request(ctx, req, PAGE)
      const all = await daemon.migrations(ctx)
      const start = cursor === undefined ? 0 : Number(cursor[0])
      if (!Number.isSafeInteger(start))
        throw new DomainError("INVALID_PAGE_TOKEN", "the page token does not open")
      const end = start + size
      return {
        migrations: all.slice(start, end).map((migration) => ({
          store: migration.store,
          version: migration.version,
          name: migration.name,
          checksum: migration.checksum,
          applyTime: optionalTime(migration.appliedAtMs),
          duration: migration.durationMs === undefined ? undefined : durationFromMs(migration.durationMs),
        })),
        nextPageToken: pages.token(ctx, req, end < all.length ? [String(end)] : undefined),
      }
    },
    drain: () => {
      daemon.drain()
      return {}
    },
  })
}

function engineMessage({ migrations, pool, latencyMs, ...view }: EngineView) {
  return {
    name: view.name,
    engine: view.engine,
    serving: view.serving,
    latency: latencyMs === undefined ? undefined : durationOf(latencyMs),
    capabilities: { ...view.capabilities },
    migrations:
      migrations === undefined
        ? undefined
        : {
            appliedCount: migrations.applied,
            pendingCount: migrations.pending,
            version: migrations.version,
          },
    pool:
      pool === undefined
        ? undefined
        : { inUseCount: pool.inUse, idleCount: pool.idle, waitingCount: pool.waiting },
  }
}

function breakerMessage(view: BreakerView) {
  return {
    store: view.store,
    operationClass: view.operationClass,
    state: BREAKER_STATES[view.state],
    successCount: BigInt(view.successes),
    failureCount: BigInt(view.failures),
    rejectionCount: BigInt(view.rejections),
    openTime: optionalTime(view.openedAtMs),
    nextProbeTime: optionalTime(view.nextProbeAtMs),
  }
}

const optionalTime = (ms: number | undefined) =>
  ms === undefined ? undefined : timestampFromMs(Math.round(ms))

/** Keeps what lies below a millisecond, for that is where most latencies are. */
function durationOf(ms: number) {
  const nanos = Math.round(ms * 1e6)
  return { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 }
}
