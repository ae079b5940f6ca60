/** Asks every store regularly whether it answers, and tells the health of the services that need it. */
import type { Logger } from "../domain/kernel/logger.ts"
import { PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"
import type { HealthRegistry } from "../rpc/builtin/health-registry.ts"
import type { NotReady } from "../rpc/server-options.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import type { Plane } from "./kit.ts"
import type { Readiness } from "./readiness.ts"

const INTERVAL_MS = 2_000
const PING_TIMEOUT_MS = 2_000
/** Without these the agent is served, if slower or with poorer answers; taking it out of service would help nobody. */
const DISPENSABLE: ReadonlySet<StoreName> = new Set(["cache", "vectors"])
/** One lost ping is noise. */
const FAILURES_TO_DOWN = 2

interface State {
  failures: number
  latencyMs: number | undefined
}

/** What is known about a store. */
export interface StoreState {
  readonly up: boolean
  /** Of the last ping that was answered. */
  readonly latencyMs: number | undefined
}

/** Pings stores until it is stopped. */
export class StoreMonitor {
  readonly #engines: readonly OpenEngine[]
  readonly #readiness: Readiness
  readonly #logger: Logger
  readonly #answered: (engine: OpenEngine) => number
  readonly #states = new Map<string, State>()
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Whether an engine was up when the health of the services was last set. */
  readonly #told = new Map<OpenEngine, boolean>()
  #stopped = false

  /** `answered` says how many calls an engine has answered so far. */
  constructor(
    engines: readonly OpenEngine[],
    readiness: Readiness,
    logger: Logger,
    answered: (engine: OpenEngine) => number,
  ) {
    this.#engines = engines
    this.#readiness = readiness
    this.#logger = logger
    this.#answered = answered
    for (const { name } of engines) this.#states.set(name, { failures: 0, latencyMs: undefined })
  }

  /** Begins; from now on `health` follows the stores. */
  start(health: HealthRegistry, planes: readonly Plane[]): void {
    for (const plane of planes) this.#update(plane, health)
    for (const engine of this.#engines) void this.#watch(engine, health, planes)
  }

  /** Pings no more. */
  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers) clearTimeout(timer)
  }

  /** Whether the engine is usable and answers. */
  isUp(engine: OpenEngine): boolean {
    return (
      this.#readiness.isReady(engine) && (this.#states.get(engine.name)?.failures ?? 0) < FAILURES_TO_DOWN
    )
  }

  /** Asks the engine now and answers what is known then, within two seconds. */
  async check(engine: OpenEngine): Promise<StoreState> {
    await this.#ping(engine)
    const state = this.#states.get(engine.name)
    return {
      up: this.#readiness.isReady(engine) && state?.failures === 0,
      latencyMs: engine.inThread ? undefined : state?.latencyMs,
    }
  }

  /** Stores that do not answer, for /readyz. Those that only make answers slower or poorer do not count. */
  notReady(): readonly NotReady[] {
    return this.#engines
      .filter((engine) => !this.isUp(engine) && !engine.stores.every((store) => DISPENSABLE.has(store)))
      .map(({ name }) => ({ part: `store:${name}`, reason: "does not answer" }))
  }

  async #watch(engine: OpenEngine, health: HealthRegistry, planes: readonly Plane[]): Promise<void> {
    while (!this.#stopped) {
      const before = this.#told.get(engine) ?? true
      await this.#ping(engine)
      const after = this.isUp(engine)
      this.#told.set(engine, after)
      if (before !== after && !this.#stopped) {
        this.#logger.warn(
          { store: engine.name },
          after ? "the store answers again" : "the store does not answer",
        )
        for (const plane of planes) this.#update(plane, health)
      }
      await this.#pause()
    }
  }

  #update(plane: Plane, health: HealthRegistry): void {
    const serving = this.#engines.every(
      (engine) => this.isUp(engine) || !engine.stores.some((store) => plane.needs.includes(store)),
    )
    for (const { descriptor } of plane.services) health.set(descriptor.typeName, serving)
  }

  async #ping(engine: OpenEngine): Promise<void> {
    const state = this.#states.get(engine.name)
    if (state === undefined) return
    const started = performance.now()
    const answered = this.#answered(engine)
    const abort = new AbortController()
    const scope = { ...systemScope(PLATFORM_TENANT, abort.signal), deadlineMs: Date.now() + PING_TIMEOUT_MS }
    const late = setTimeout(() => abort.abort(), PING_TIMEOUT_MS)
    const hung = new Promise<never>((_, reject) => {
      abort.signal.addEventListener("abort", () => reject(new Error("no answer in time")))
    })
    try {
      await Promise.race([engine.ping(scope), hung])
      state.failures = 0
      state.latencyMs = performance.now() - started
    } catch {
      // The state says it; what the store said is in the log of the calls that failed.
      // A ping that waits behind calls which are answered meanwhile says that there is much to do, not that the store is down.
      state.failures = this.#answered(engine) > answered ? 0 : state.failures + 1
    } finally {
      clearTimeout(late)
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer)
        resolve()
      }, INTERVAL_MS)
      timer.unref()
      this.#timers.add(timer)
    })
  }
}
