/** AdminService: the daemon's own state on the wire. */
import { type Duration, durationFromMs, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { BreakerChoice, BreakerView, EngineView, MigrationView } from "../domain/admin/model.ts"
import type { BreakerControl, DaemonControl } from "../domain/admin/ports.ts"
import { DomainError } from "../domain/kernel/errors.ts"
import type { OutboxOperators } from "../domain/outbox/operators.ts"
import { AdminService, BreakerState } from "../gen/keelplane/v1/admin_service_pb.ts"
import { type CallContext, type Service, service } from "../rpc/handler.ts"
import { listOutbox, replayOutbox } from "./admin-outbox.ts"
import type { PagedRequest, Pages } from "./paging.ts"

/** What {@link createAdminService} needs. */
export interface AdminServiceDeps {
  readonly daemon: DaemonControl
  readonly pages: Pages
  readonly breakers: BreakerControl
  readonly outbox: OutboxOperators
}

const PAGE = { defaultSize: 100, maxSize: 1_000 }

const BREAKER_STATES = {
  closed: BreakerState.CLOSED,
  open: BreakerState.OPEN,
  half_open: BreakerState.HALF_OPEN,
}

/** AdminService over the daemon. */
export function createAdminService({ daemon, pages, breakers: switches, outbox }: AdminServiceDeps): Service {
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
      const { items, nextPageToken } = page(pages, ctx, req, await daemon.migrations(ctx))
      return { migrations: items.map(migrationMessage), nextPageToken }
    },
    listBreakers: (req, ctx) => {
      const { items, nextPageToken } = page(pages, ctx, req, switches.list())
      return { breakers: items.map(breakerMessage), nextPageToken }
    },
    tripBreaker: (req, ctx) => ({
      breakers: switches.trip(ctx, choiceOf(req), optionalMs(req.duration)).map(breakerMessage),
    }),
    resetBreaker: (req, ctx) => ({ breakers: switches.reset(ctx, choiceOf(req)).map(breakerMessage) }),
    listOutbox: (req, ctx) => listOutbox(outbox, pages, req, ctx),
    replayOutbox: (req, ctx) => replayOutbox(outbox, req, ctx),
    drain: () => {
      daemon.drain()
      return {}
    },
  })
}

/** A page of a list that is short enough to be made whole. */
function page<T>(pages: Pages, ctx: CallContext, req: PagedRequest, all: readonly T[]) {
  const { size, cursor } = pages.request(ctx, req, PAGE)
  const start = cursor === undefined ? 0 : Number(cursor[0])
  if (!Number.isSafeInteger(start))
    throw new DomainError("INVALID_PAGE_TOKEN", "the page token does not open")
  const end = start + size
  return {
    items: all.slice(start, end),
    nextPageToken: pages.token(ctx, req, end < all.length ? [String(end)] : undefined),
  }
}

const choiceOf = (req: { readonly store: string; readonly operationClass: string }): BreakerChoice => ({
  store: req.store,
  operationClass: req.operationClass === "" ? undefined : req.operationClass,
})

const optionalMs = (duration: Duration | undefined) =>
  duration === undefined ? undefined : Math.round(durationMs(duration))

function migrationMessage(migration: MigrationView) {
  return {
    store: migration.store,
    version: migration.version,
    name: migration.name,
    checksum: migration.checksum,
    applyTime: optionalTime(migration.appliedAtMs),
    duration: migration.durationMs === undefined ? undefined : durationFromMs(migration.durationMs),
  }
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
    tripped: view.tripped,
  }
}

const optionalTime = (ms: number | undefined) =>
  ms === undefined ? undefined : timestampFromMs(Math.round(ms))

/** Keeps what lies below a millisecond, for that is where most latencies are. */
function durationOf(ms: number) {
  const nanos = Math.round(ms * 1e6)
  return { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 }
}
