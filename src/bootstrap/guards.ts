/** What protects the daemon from its stores and its stores from each other, and what can be seen and worked of it. */
import type { Config, ProtectionConfig } from "../config/schema.ts"
import type { BreakerControl } from "../domain/admin/ports.ts"
import { BreakerSwitches } from "../domain/admin/switch-breakers.ts"
import type { Operations } from "../domain/kernel/operations.ts"
import { PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"
import { Breaker, type BreakerSettings, type OperationClass } from "../stores/decorators/breaker.ts"
import { Bulkhead, type BulkheadState } from "../stores/decorators/bulkhead.ts"
import { chain, type Protection } from "../stores/decorators/chain.ts"
import { parseFaultRules } from "../stores/decorators/fault-rules.ts"
import { FaultPlan } from "../stores/decorators/faults.ts"
import { type BudgetState, RetryBudget } from "../stores/decorators/retry-budget.ts"
import { wrapPort } from "../stores/decorators/wrap.ts"
import type { Telemetry } from "../telemetry/index.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import type { Readiness } from "./readiness.ts"

/** Wraps ports; see {@link Kit}. */
export interface Guards {
  guard<P extends object>(store: StoreName, name: string, port: P, operations: Operations<P>): P
  /** Every breaker, to be shown and to be worked by operators. */
  readonly switches: BreakerControl
  /** Every bulkhead as it stands. */
  bulkheads(): readonly BulkheadState[]
  /** How many calls the engine's stores have answered since the start. */
  answered(engine: OpenEngine): number
  /** Every store's budget of repetitions as it stands. */
  budgets(): readonly BudgetState[]
  /** Stops the breakers' timers. */
  close(): void
}

/** Makes what protects every store whose engine is not in this thread. `faults` are a test's, or the configuration's. */
export function createGuards(
  config: Config,
  telemetry: Telemetry,
  engines: readonly OpenEngine[],
  readiness: Readiness,
  faults: FaultPlan | undefined = faultsOf(config, telemetry),
): Guards {
  const protections = new Map<StoreName, Protection>()
  for (const engine of engines) {
    if (engine.inThread) continue
    for (const store of engine.stores)
      protections.set(store, protect(config, store, engine, telemetry, readiness))
  }
  const all = [...protections.values()]
  const breakers = all.flatMap(({ breakers: { read, write } }) => [read, write])
  const bulkheads = all.flatMap(({ bulkheads: { read, write } }) => [read, write])
  return {
    guard: (store, port, methods, operations) => {
      const protection = protections.get(store)
      const decorate = chain({ store, port, observer: telemetry.stores, protection, faults })
      return wrapPort(methods, operations, decorate)
    },
    switches: new BreakerSwitches(breakers),
    bulkheads: () => bulkheads.map((bulkhead) => bulkhead.state()),
    answered: ({ stores }) =>
      stores
        .flatMap((store) => Object.values(protections.get(store)?.bulkheads ?? {}))
        .reduce((sum, bulkhead) => sum + bulkhead.state().answered, 0),
    budgets: () => all.map(({ budget }) => budget.state()),
    close: () => {
      for (const breaker of breakers) breaker.stop()
    },
  }
}

function protect(
  config: Config,
  store: StoreName,
  engine: OpenEngine,
  { logger }: Telemetry,
  readiness: Readiness,
): Protection {
  const settings = config.stores[store]
  const breaker = (operationClass: OperationClass) =>
    new Breaker({
      store,
      operationClass,
      settings: breakerSettings(settings.breaker),
      probe: (signal, timeoutMs) =>
        engine.ping({ ...systemScope(PLATFORM_TENANT, signal), deadlineMs: Date.now() + timeoutMs }),
      onChange: ({ state }) =>
        logger.warn({ store, breaker: operationClass, state }, "a breaker changed its state"),
    })
  const { concurrency, queue, wait_ms: waitMs } = settings.bulkhead
  const bulkhead = (operationClass: OperationClass) =>
    new Bulkhead({ store, operationClass, settings: { concurrency, queue, waitMs } })
  const { attempts, base_ms: baseMs, max_ms: maxMs, budget_tokens, budget_per_success } = settings.retry
  return {
    isOpen: readiness.gate(store),
    retry: { attempts, baseMs, maxMs },
    budget: new RetryBudget(store, { tokens: budget_tokens, perSuccess: budget_per_success }),
    breakers: { read: breaker("read"), write: breaker("write") },
    slowMs: settings.breaker.slow_ms,
    bulkheads: { read: bulkhead("read"), write: bulkhead("write") },
  }
}

function breakerSettings(config: ProtectionConfig["breaker"]): BreakerSettings {
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

const MAX_SEED = 2 ** 31

function faultsOf({ faults }: Config, { logger }: Telemetry): FaultPlan | undefined {
  if (!faults.unsafe || faults.rules === "") return undefined
  const seed = faults.seed ?? Math.floor(Math.random() * MAX_SEED)
  const rules = parseFaultRules(faults.rules)
  logger.warn(
    { seed, count: rules.length },
    "stores fail on purpose, for a test: the rules of faults.rules apply",
  )
  return new FaultPlan({
    seed,
    rules,
    onFault: ({ operation, call, fault }) =>
      logger.warn({ operation, call, fault }, "a store call was made to fail"),
  })
}
