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
  const breakers = metrics.gauge(METRIC.breakerState, "0 closed, 1 half-open, 2 open.", [
    LABEL.store,
    LABEL.operationClass,
  ])
  const pool = metrics.gauge(METRIC.poolConnections, "Connections to a store.", [LABEL.store, LABEL.state])
  const waiting = metrics.gauge(METRIC.poolWaiting, "Calls that wait for a connection.", [LABEL.store])
  const bytes = metrics.gauge(METRIC.cacheBytes, "What the cache inside the daemon weighs.").with()
  const entries = metrics.gauge(METRIC.cacheEntries, "Keys of the cache inside the daemon.").with()
  metrics.onCollect(() => {
    const stats = server.stats()
    inFlight.set(stats.inFlight)
    streams.set(stats.streams)
    connections.set(stats.connections)
    for (const breaker of guards.switches.list()) {
      breakers.with(breaker.store, breaker.operationClass).set(BREAKER_STATE_VALUE[breaker.state])
    }
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

/** Counts what sweepers do. */
export function sweepObserver({ metrics }: Telemetry): SweepObserver {
  const removed = metrics.counter(METRIC.sweepRemoved, "Rows that upkeep reclaimed.", [LABEL.sweeper])
  const failures = metrics.counter(METRIC.sweepFailures, "Runs of upkeep that failed.", [LABEL.sweeper])
  return {
    swept: (name, count) => removed.with(name).inc(count),
    failed: (name) => failures.with(name).inc(),
  }
}
