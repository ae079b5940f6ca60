/**
 * The composition root. Order of a start: telemetry, engines in parallel, planes, migrations and what else must be there before
 * the first call, ports, upkeep, ready. Stores that do not answer are prepared later, behind a gate. A stop goes the other way
 * round and is the same whether a start failed half-way or a daemon drained.
 */
import { parseAddress } from "../config/address.ts"
import type { LoadedConfig } from "../config/load.ts"
import type { Config } from "../config/schema.ts"
import { TENANT_ERASER_OPERATIONS } from "../domain/control/erasure.ts"
import { systemClock } from "../domain/kernel/clock.ts"
import { createServer } from "../rpc/server.ts"
import type { Addresses, RpcServer } from "../rpc/server-options.ts"
import type { TransportFactory } from "../rpc/transport.ts"
import { Pages } from "../services/paging.ts"
import type { FaultPlan } from "../stores/decorators/faults.ts"
import { getOrCreateSecret, type SqlEngine, sweepIdempotency } from "../stores/postgres/index.ts"
import { startTelemetry, type Telemetry } from "../telemetry/index.ts"
import { createAuthenticator } from "./authentication.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import { openEngines } from "./engines/open.ts"
import { createGuards, type Guards } from "./guards.ts"
import type { Kit, Plane } from "./kit.ts"
import { registerMetrics, sweepObserver } from "./metrics.ts"
import { StoreMonitor } from "./monitor.ts"
import { registerOutboxMetrics } from "./outbox-metrics.ts"
import { Outboxes } from "./outboxes.ts"
import { adminPlane } from "./planes/admin.ts"
import { cachePlane } from "./planes/cache.ts"
import { controlPlane } from "./planes/control.ts"
import { auditPlane, workPlane } from "./planes/event.ts"
import { memoryPlane } from "./planes/memory.ts"
import { streamPlane } from "./planes/streams.ts"
import { Readiness } from "./readiness.ts"
import { type Sweeper, Sweepers } from "./sweepers.ts"
import { version } from "./version.ts"

const PAGE_KEY_BYTES = 32
const SWEEP_ROWS = 5_000

/** A running daemon. */
export interface Daemon {
  readonly addresses: Addresses
  readonly telemetry: Telemetry
  /** Resolves when the daemon was told by an RPC to drain. */
  readonly drainRequested: Promise<void>
  /** Finishes what is under way, tells streams to resume elsewhere, closes everything. */
  drain(): Promise<void>
}

/** Things to undo, newest first. */
class Undo {
  readonly #steps: (() => Promise<unknown>)[] = []

  add(step: () => Promise<unknown>): void {
    this.#steps.push(step)
  }

  /** Runs every step even when one fails; rejects with the first failure. */
  async run(): Promise<void> {
    const failures: unknown[] = []
    for (const step of this.#steps.splice(0).reverse())
      await step().catch((error: unknown) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }
}

/**
 * Starts a daemon on engines that are open or opening; rejects with what is in the way, leaving nothing open. `faults` make its
 * stores fail for a test in the same process.
 */
export async function startDaemon(
  loaded: LoadedConfig,
  opening: Promise<readonly OpenEngine[]> = openEngines(loaded.config),
  faults?: FaultPlan,
): Promise<Daemon> {
  const undo = new Undo()
  try {
    return await start(loaded, opening, undo, faults)
  } catch (error) {
    // What made the start fail is the news; that something then failed to close is not.
    await undo.run().catch(() => {})
    throw error
  }
}

async function start(
  loaded: LoadedConfig,
  opening: Promise<readonly OpenEngine[]>,
  undo: Undo,
  faults: FaultPlan | undefined,
): Promise<Daemon> {
  const { config } = loaded
  const telemetry = await startTelemetry({
    level: config.telemetry.log_level,
    format: config.telemetry.log_format,
    otlpEndpoint: config.telemetry.otlp_endpoint,
    sampleRatio: config.telemetry.trace_sample_ratio,
    version: version(),
  })
  undo.add(() => telemetry.stop())
  const engines = await opening
  undo.add(() => Promise.all(engines.map((engine) => engine.close())))
  tellSlowStarts(engines, telemetry)
  const readiness = new Readiness(config, engines, telemetry.logger)
  undo.add(() => readiness.stop())
  const guards = createGuards(config, telemetry, engines, readiness, faults)
  undo.add(async () => guards.close())
  const outboxes = new Outboxes(engines, guards, telemetry)
  const kit = createKit(config, telemetry, engines, guards, readiness, outboxes)
  const drain = Promise.withResolvers<void>()
  const planes: Plane[] = []
  const add = async <P extends Plane>(making: Promise<P>): Promise<P> => {
    const plane = await making
    undo.add(() => plane.close())
    planes.push(plane)
    return plane
  }
  const memory = await add(memoryPlane(kit))
  const streams = await add(streamPlane(kit))
  const { audit } = await add(auditPlane(kit))
  const cache = await add(cachePlane(kit))
  await add(workPlane(kit))
  const control = await add(controlPlane(kit, { memory, streams, audit, cache }))
  await readiness.start()
  const monitor = new StoreMonitor(engines, readiness, telemetry.logger, guards.answered)
  const admin = adminPlane({
    loaded,
    kit,
    engines,
    guards,
    monitor,
    outboxes,
    server: () => server,
    drain: drain.resolve,
  })
  const server: RpcServer = createServer({
    services: [...planes, admin].flatMap(({ services }) => services),
    listen: listenOptions(config),
    logger: telemetry.logger,
    authenticator: createAuthenticator(config, telemetry.logger, control),
    tenants: control.directory,
    observer: telemetry.rpc,
    limits: rpcLimits(config),
    makeTransport: await transportFactory(config),
    reflection: config.listen.reflection,
    ops: { metrics: () => telemetry.metrics.expose(), readiness: () => monitor.notReady() },
  })
  registerMetrics(telemetry.metrics, { server, engines, guards, monitor })
  const outboxSweeper = registerOutboxMetrics(telemetry.metrics, outboxes)
  const addresses = await server.start()
  undo.add(() => server.stop())
  monitor.start(server.health, planes)
  undo.add(async () => monitor.stop())
  const sweepers = new Sweepers(telemetry.logger, sweepObserver(telemetry))
  outboxes.start()
  undo.add(() => outboxes.stop())
  const own = [...planes.flatMap((plane) => plane.sweepers), ...engines.flatMap(engineSweepers)]
  sweepers.start([...own, outboxSweeper])
  undo.add(() => sweepers.stop())
  return {
    addresses,
    telemetry,
    drainRequested: drain.promise,
    drain: async () => {
      try {
        await server.drain(config.shutdown.grace_ms)
      } finally {
        await undo.run()
      }
    },
  }
}

/** The library is loaded where it is asked for: it costs memory and time. */
async function transportFactory({ listen }: Config): Promise<TransportFactory | undefined> {
  if (listen.transport === "http2") return undefined
  const { createGrpcJsTransport } = await import("../rpc/transports/grpc-js.ts")
  return createGrpcJsTransport
}

function tellSlowStarts(engines: readonly OpenEngine[], { logger }: Telemetry): void {
  for (const { name, handle } of engines) {
    const reason = handle.kind === "sql" ? handle.sql.initdb : undefined
    if (reason !== undefined)
      logger.info({ store: name, reason }, "a new database was made by initdb, the slow way")
  }
}

function createKit(
  config: Config,
  { logger }: Telemetry,
  engines: readonly OpenEngine[],
  guards: Guards,
  readiness: Readiness,
  outboxes: Outboxes,
): Kit {
  const handle = (store: StoreName) => engines.find(({ stores }) => stores.includes(store))?.handle
  const sql = (store: StoreName): SqlEngine => {
    const found = handle(store)
    if (found?.kind !== "sql") throw new Error(`the store ${store} is not an SQL database`)
    return found.sql
  }
  const pages = new Pages()
  const { database } = sql("control")
  readiness.before("control", async () =>
    pages.useKey(await getOrCreateSecret(database, "page-token-key", PAGE_KEY_BYTES)),
  )
  return {
    config,
    logger,
    clock: systemClock,
    pages,
    handle,
    sql,
    outbox: (store) => outboxes.of(store),
    tenantErasers: engines.map(({ stores, eraser }) =>
      guards.guard(stores[0] ?? "control", "eraser", eraser, TENANT_ERASER_OPERATIONS),
    ),
    before: (store, work) => readiness.before(store, work),
    guard: guards.guard,
  }
}

function listenOptions({ listen }: Config) {
  return { tcp: parseAddress(listen.data), unix: listen.unix, ops: parseAddress(listen.ops) }
}

function rpcLimits({ limits }: Config) {
  return {
    maxMessageBytes: limits.message_bytes,
    maxConnections: limits.connections,
    maxStreamsPerConnection: limits.streams_per_connection,
    sessionMemoryMb: limits.session_memory_mb,
    maxInFlight: limits.in_flight,
    maxInFlightPerTenant: limits.in_flight_per_tenant,
    maxStreamsPerTenant: limits.streams_per_tenant,
    fairShareAt: limits.fair_share_at,
    shedAtMemory: limits.shed_at_memory,
    refuseAtMemory: limits.refuse_at_memory,
    maxDepth: limits.depth,
    defaultDeadlineMs: limits.default_deadline_ms,
    maxDeadlineMs: limits.max_deadline_ms,
  }
}

function engineSweepers({ name, handle }: OpenEngine): readonly Sweeper[] {
  if (handle.kind !== "sql") return []
  const { sql } = handle
  return [
    {
      name: `idempotency:${name}`,
      intervalMs: 60_000,
      run: async () => {
        const removed = await sweepIdempotency(sql.database, systemClock.now(), SWEEP_ROWS)
        return { removed, more: removed >= SWEEP_ROWS }
      },
    },
    { name: `vacuum:${name}`, intervalMs: 60_000, run: () => sql.vacuum() },
  ]
}
