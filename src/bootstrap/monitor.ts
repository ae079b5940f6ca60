/** Asks every store regularly whether it answers, and tells the health of the services that need it. */
import type { Logger } from "../domain/kernel/logger.ts"
import { PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"
import type { HealthRegistry } from "../rpc/builtin/health-registry.ts"
import type { NotReady } from "../rpc/server-options.ts"
import type { OpenEngine } from "./engines.ts"
import type { Plane } from "./kit.ts"

const INTERVAL_MS = 2_000
const PING_TIMEOUT_MS = 2_000
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
  readonly #logger: Logger
  readonly #states = new Map<string, State>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #stopped = false

  constructor(engines: readonly OpenEngine[], logger: Logger) {
    this.#engines = engines
    this.#logger = logger
    for (const { name } of engines) this.#states.set(name, { failures: 0, latencyMs: undefined })
  }

  /** Begins; from now on `health` follows the stores. */
  start(health: HealthRegistry, planes: readonly Plane[]): void {
    for (const engine of this.#engines) void this.#watch(engine, health, planes)
  }

  /** Pings no more. */
  stop(): void {
    this.#stopped = true
    for (const timer of this.#timers) clearTimeout(timer)
  }

  /** Whether the engine `name` answers. */
  isUp(name: string): boolean {
    return (this.#states.get(name)?.failures ?? 0) < FAILURES_TO_DOWN
  }

  /** Asks the engine `name` now and answers what is known then, within two seconds. */
  async check(name: string): Promise<StoreState> {
    const engine = this.#engines.find((each) => each.name === name)
    if (engine !== undefined) await this.#ping(engine)
    const state = this.#states.get(name)
    return { up: state?.failures === 0, latencyMs: state?.latencyMs }
  }

  /** Stores that do not answer, for /readyz. */
  notReady(): readonly NotReady[] {
    return this.#engines
      .filter(({ name }) => !this.isUp(name))
      .map(({ name }) => ({ part: `store:${name}`, reason: "does not answer" }))
  }

  async #watch(engine: OpenEngine, health: HealthRegistry, planes: readonly Plane[]): Promise<void> {
    while (!this.#stopped) {
      const before = this.isUp(engine.name)
      await this.#ping(engine)
      const after = this.isUp(engine.name)
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
      ({ name, stores }) => this.isUp(name) || !stores.some((store) => plane.needs.includes(store)),
    )
    for (const { descriptor } of plane.services) health.set(descriptor.typeName, serving)
  }

  async #ping({ name, sql }: OpenEngine): Promise<void> {
    const state = this.#states.get(name)
    if (state === undefined) return
    const started = performance.now()
    const abort = new AbortController()
    const scope = { ...systemScope(PLATFORM_TENANT, abort.signal), deadlineMs: Date.now() + PING_TIMEOUT_MS }
    const late = setTimeout(() => abort.abort(), PING_TIMEOUT_MS)
    const hung = new Promise<never>((_, reject) => {
      abort.signal.addEventListener("abort", () => reject(new Error("no answer in time")))
    })
    try {
      await Promise.race([sql.ping(scope), hung])
      state.failures = 0
      state.latencyMs = performance.now() - started
    } catch {
      // The state says it; what the store said is in the log of the calls that failed.
      state.failures += 1
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
