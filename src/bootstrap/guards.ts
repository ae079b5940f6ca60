/** The decorators of every store, and the list of their breakers. */
import type { BreakerConfig, Config } from "../config/schema.ts"
import type { BreakerControl } from "../domain/admin/ports.ts"
import { BreakerSwitches } from "../domain/admin/switch-breakers.ts"
import type { Operations } from "../domain/kernel/operations.ts"
import { PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"
import { Breaker, type BreakerSettings, type OperationClass } from "../stores/decorators/breaker.ts"
import { deadline } from "../stores/decorators/deadline.ts"
import { gate } from "../stores/decorators/gate.ts"
import { guard } from "../stores/decorators/guard.ts"
import { observe } from "../stores/decorators/observe.ts"
import { wrapPort } from "../stores/decorators/wrap.ts"
import type { Telemetry } from "../telemetry/index.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import type { Readiness } from "./readiness.ts"

/** Wraps ports; see {@link Kit}. */
export interface Guards {
  guard<P extends object>(store: StoreName, name: string, port: P, operations: Operations<P>): P
  /** Every breaker, to be shown and to be worked by operators. */
  readonly switches: BreakerControl
  /** Stops the breakers' timers. */
  close(): void
}

type Breakers = Readonly<Record<OperationClass, Breaker>>

/** Makes the breakers of every store whose engine is not in this thread. */
export function createGuards(
  config: Config,
  telemetry: Telemetry,
  engines: readonly OpenEngine[],
  readiness: Readiness,
): Guards {
  const breakers = new Map<StoreName, Breakers>()
  for (const engine of engines) {
    if (engine.inThread) continue
    for (const store of engine.stores) breakers.set(store, makeBreakers(config, store, engine, telemetry))
  }
  const all = () => [...breakers.values()].flatMap(({ read, write }) => [read, write])
  return {
    guard: (store, name, port, operations) => {
      const pair = breakers.get(store)
      const watch = observe(store, name, telemetry.stores)
      if (pair === undefined) return wrapPort(port, operations, watch)
      const timed = wrapPort(port, operations, deadline(store))
      const guarded = wrapPort(timed, operations, guard(pair, config.stores[store].breaker.slow_ms))
      return wrapPort(wrapPort(guarded, operations, gate(store, readiness.gate(store))), operations, watch)
    },
    switches: new BreakerSwitches(all()),
    close: () => {
      for (const breaker of all()) breaker.stop()
    },
  }
}

function makeBreakers(config: Config, store: StoreName, engine: OpenEngine, { logger }: Telemetry): Breakers {
  const make = (operationClass: OperationClass) =>
    new Breaker({
      store,
      operationClass,
      settings: settingsOf(config.stores[store].breaker),
      probe: (signal, timeoutMs) =>
        engine.ping({ ...systemScope(PLATFORM_TENANT, signal), deadlineMs: Date.now() + timeoutMs }),
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
