/** The decorators of every store, and the list of their breakers. */
import type { BreakerConfig, Config } from "../config/schema.ts"
import type { Operations } from "../domain/kernel/operations.ts"
import { PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"
import {
  Breaker,
  type BreakerSettings,
  type BreakerState,
  type OperationClass,
} from "../stores/decorators/breaker.ts"
import { deadline } from "../stores/decorators/deadline.ts"
import { guard } from "../stores/decorators/guard.ts"
import { observe } from "../stores/decorators/observe.ts"
import { wrapPort } from "../stores/decorators/wrap.ts"
import type { Telemetry } from "../telemetry/index.ts"
import { type OpenEngine, SQL_STORES, type SqlStoreName } from "./engines.ts"

/** Wraps ports; see {@link Kit}. */
export interface Guards {
  guard<P extends object>(store: SqlStoreName, name: string, port: P, operations: Operations<P>): P
  observe<P extends object>(store: string, name: string, port: P, operations: Operations<P>): P
  /** Every breaker as it stands. */
  breakers(): readonly BreakerState[]
  /** Stops the breakers' timers. */
  close(): void
}

type Breakers = Readonly<Record<OperationClass, Breaker>>

/** Makes the breakers of every SQL store of the configuration. */
export function createGuards(config: Config, telemetry: Telemetry, engines: readonly OpenEngine[]): Guards {
  const breakers = new Map<SqlStoreName, Breakers>()
  for (const store of SQL_STORES) {
    const engine = engines.find(({ stores }) => stores.includes(store))
    if (engine !== undefined) breakers.set(store, makeBreakers(config, store, engine, telemetry))
  }
  const all = () => [...breakers.values()].flatMap(({ read, write }) => [read, write])
  return {
    guard: (store, name, port, operations) => {
      const pair = breakers.get(store)
      if (pair === undefined) throw new Error(`no engine serves the store ${store}`)
      const timed = wrapPort(port, operations, deadline(store))
      const guarded = wrapPort(timed, operations, guard(pair, config.stores[store].breaker.slow_ms))
      return wrapPort(guarded, operations, observe(store, name, telemetry.stores))
    },
    observe: (store, name, port, operations) =>
      wrapPort(port, operations, observe(store, name, telemetry.stores)),
    breakers: () => all().map((breaker) => breaker.state()),
    close: () => {
      for (const breaker of all()) breaker.stop()
    },
  }
}

function makeBreakers(
  config: Config,
  store: SqlStoreName,
  engine: OpenEngine,
  { logger }: Telemetry,
): Breakers {
  const make = (operationClass: OperationClass) =>
    new Breaker({
      store,
      operationClass,
      settings: settingsOf(config.stores[store].breaker),
      probe: (signal, timeoutMs) =>
        engine.sql.ping({ ...systemScope(PLATFORM_TENANT, signal), deadlineMs: Date.now() + timeoutMs }),
      onChange: ({ state }) =>
        logger.warn({ store, breaker: operationClass, state }, "a breaker changed its state"),
    })
  return { read: make("read"), write: make("write") }
}

function settingsOf(config: BreakerConfig): BreakerSettings {
  return {
    enabled: config.enabled,
    errorPercent: config.error_percent,
    volume: config.volume,
    windowMs: config.window_ms,
    probeMinMs: config.probe_min_ms,
    probeMaxMs: config.probe_max_ms,
    probeTimeoutMs: config.probe_timeout_ms,
    slowMs: config.slow_ms,
  }
}
