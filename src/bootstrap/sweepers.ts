/** Periodic upkeep: one task never overlaps itself, runs are spread, and none keeps the process alive. */
import { isStoreAway } from "../domain/kernel/errors.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import { type CallScope, PLATFORM_TENANT, systemScope } from "../domain/kernel/scope.ts"

/** A task that reclaims a bounded amount per run. */
export interface Sweeper {
  readonly name: string
  readonly intervalMs: number
  /** Answers how much it reclaimed. With `more` the next run follows at once. */
  run(scope: CallScope): Promise<{ readonly removed: number; readonly more: boolean }>
}

/** Told about each run. */
export interface SweepObserver {
  swept(name: string, removed: number): void
  failed(name: string): void
}

/** How far an interval may be off, so that daemons on one database do not sweep in step. */
const JITTER = 0.2

/** Runs sweepers until it is stopped. */
export class Sweepers {
  readonly #timers = new Map<Sweeper, NodeJS.Timeout>()
  readonly #running = new Set<Promise<void>>()
  readonly #abort = new AbortController()
  readonly #logger: Logger
  readonly #observer: SweepObserver

  constructor(logger: Logger, observer: SweepObserver) {
    this.#logger = logger
    this.#observer = observer
  }

  /** Begins with a first run after a part of each interval. */
  start(sweepers: readonly Sweeper[]): void {
    for (const sweeper of sweepers) this.#schedule(sweeper, sweeper.intervalMs * Math.random())
  }

  /** Lets running sweeps end (their scope's signal is aborted) and starts no more. */
  async stop(): Promise<void> {
    this.#abort.abort()
    for (const timer of this.#timers.values()) clearTimeout(timer)
    this.#timers.clear()
    await Promise.all(this.#running)
  }

  #schedule(sweeper: Sweeper, delayMs: number): void {
    if (this.#abort.signal.aborted) return
    const timer = setTimeout(() => {
      const run = this.#run(sweeper).finally(() => this.#running.delete(run))
      this.#running.add(run)
    }, delayMs)
    timer.unref()
    this.#timers.set(sweeper, timer)
  }

  async #run(sweeper: Sweeper): Promise<void> {
    const spread = sweeper.intervalMs * (1 - JITTER + 2 * JITTER * Math.random())
    let next = spread
    try {
      const { removed, more } = await sweeper.run(systemScope(PLATFORM_TENANT, this.#abort.signal))
      this.#observer.swept(sweeper.name, removed)
      if (more) next = Math.min(spread, 50)
    } catch (err) {
      if (!this.#abort.signal.aborted) {
        this.#observer.failed(sweeper.name)
        // That a store is away is said once, by who watches it.
        if (!isStoreAway(err))
          this.#logger.warn({ sweeper: sweeper.name, err }, "upkeep failed; it will be tried again")
      }
    }
    this.#schedule(sweeper, next)
  }
}
