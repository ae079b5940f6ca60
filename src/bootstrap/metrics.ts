import type { RpcServer } from "../rpc/server-options.ts"
import type { Telemetry } from "../telemetry/index.ts"
import type { MetricRegistry } from "../telemetry/metrics.ts"
import { LABEL, METRIC } from "../telemetry/names.ts"
import type { OpenEngine } from "./engines/engine.ts"
import type { Guards } from "./guards.ts"
import type { StoreMonitor } from "./monitor.ts"
import type { SweepObserver } from "./sweepers.ts"

/** What gauges read at each scrape. */
export interface MetricSources {
  readonly server: RpcServer
  readonly engines: readonly OpenEngine[]
  readonly guards: Guards
  readonly monitor: StoreMonitor
}

const BREAKER_STATE_VALUE = { closed: 0, half_open: 1, open: 2 } as const

/** Gauges that are read at each scrape. */
export function registerMetrics(
  metrics: MetricRegistry,
  { server, engines, guards, monitor }: MetricSources,
): void {
  const inFlight = metrics.gauge(METRIC.rpcInFlight, "Unary calls in flight.").with()
  const streams = metrics.gauge(METRIC.rpcStreams, "Open streams and long polls.").with()
  const connections = metrics.gauge(METRIC.connections, "Open connections to the data port.").with()
  const up = metrics.gauge(METRIC.storeUp, "1 while a store answers.", [LABEL.store])
  const pool = metrics.gauge(METRIC.poolConnections, "Connections to a store.", [LABEL.store, LABEL.state])
  const waiting = metrics.gauge(METRIC.poolWaiting, "Calls that wait for a connection.", [LABEL.store])
  const bytes = metrics.gauge(METRIC.cacheBytes, "What the cache inside the daemon weighs.").with()
  const entries = metrics.gauge(METRIC.cacheEntries, "Keys of the cache inside the daemon.").with()
  registerGuards(metrics, guards)
  metrics.onCollect(() => {
    const stats = server.stats()
    inFlight.set(stats.inFlight)
    streams.set(stats.streams)
    connections.set(stats.connections)
    for (const engine of engines) {
      const { name, handle } = engine
      up.with(name).set(monitor.isUp(engine) ? 1 : 0)
      const state = engine.pool?.()
      if (state !== undefined) {
        pool.with(name, "idle").set(state.idle)
        pool.with(name, "used").set(state.inUse)
        waiting.with(name).set(state.waiting)
      }
      const usage = handle.kind === "cache" ? handle.cache.usage?.() : undefined
      if (usage !== undefined) {
        bytes.set(usage.bytes)
        entries.set(usage.entries)
      }
    }
  })
}

/** What protects the stores, read at each scrape. */
function registerGuards(metrics: MetricRegistry, guards: Guards): void {
  const labels = [LABEL.store, LABEL.operationClass]
  const states = metrics.gauge(METRIC.breakerState, "0 closed, 1 half-open, 2 open.", labels)
  const rejects = metrics.counter(METRIC.breakerRejects, "Calls that breakers refused.", labels)
  const inFlight = metrics.gauge(METRIC.bulkheadInFlight, "Calls that are with a store.", labels)
  const queued = metrics.gauge(METRIC.bulkheadQueued, "Calls that wait for a place with a store.", labels)
  const shed = metrics.counter(METRIC.bulkheadShed, "Calls for which a store had no place.", labels)
  const retries = metrics.counter(METRIC.retries, "Calls that were sent to a store again.", [LABEL.store])
  const refused = metrics.counter(METRIC.retriesRefused, "Repetitions beyond a store's budget.", [
    LABEL.store,
  ])
  const tokens = metrics.gauge(METRIC.retryTokens, "What is left of a store's budget of repetitions.", [
    LABEL.store,
  ])
  metrics.onCollect(() => {
    for (const { store, operationClass, state, rejections } of guards.switches.list()) {
      states.with(store, operationClass).set(BREAKER_STATE_VALUE[state])
      rejects.with(store, operationClass).countedTo(rejections)
    }
    for (const bulkhead of guards.bulkheads()) {
      const { store, operationClass } = bulkhead
      inFlight.with(store, operationClass).set(bulkhead.inFlight)
      queued.with(store, operationClass).set(bulkhead.queued)
      shed.with(store, operationClass).countedTo(bulkhead.shed)
    }
    for (const budget of guards.budgets()) {
      retries.with(budget.store).countedTo(budget.retries)
      refused.with(budget.store).countedTo(budget.refused)
      tokens.with(budget.store).set(budget.tokens)
    }
  })
}

/** Counts what sweepers do. */
export function sweepObserver({ metrics }: Telemetry): SweepObserver {
  const removed = metrics.counter(METRIC.sweepRemoved, "Rows that upkeep reclaimed.", [LABEL.sweeper])
  const failures = metrics.counter(METRIC.sweepFailures, "Runs of upkeep that failed.", [LABEL.sweeper])
  return {
    swept: (name, count) => removed.with(name).inc(count),
    failed: (name) => failures.with(name).inc(),
  }
}
