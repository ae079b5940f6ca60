/**
 * From open to usable. A server may be away when the daemon starts: its stores refuse calls with STORE_UNAVAILABLE until its
 * schema is up to date and everything that waits for it is done, and the rest of the daemon serves meanwhile.
 */
import type { Config } from "../config/schema.ts"
import { DomainError } from "../domain/kernel/errors.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import { pause } from "../domain/kernel/pause.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import { blame } from "./engines/open.ts"

/** How long a start waits for servers that do not answer, in milliseconds. */
const FIRST_WAIT_MS = 6_000
const STOP_WAIT_MS = 3_000
const RETRY_MIN_MS = 250
const RETRY_MAX_MS = 5_000

interface Preparation {
  readonly engine: OpenEngine
  readonly hooks: (() => Promise<void>)[]
  ready: boolean
}

/** Prepares engines until each is usable or {@link Readiness.stop} is called. */
export class Readiness {
  readonly #config: Config
  readonly #logger: Logger
  readonly #preparations: readonly Preparation[]
  readonly #stopped = new AbortController()
  readonly #running: Promise<void>[] = []

  constructor(config: Config, engines: readonly OpenEngine[], logger: Logger) {
    this.#config = config
    this.#logger = logger
    this.#preparations = engines.map((engine) => ({ engine, hooks: [], ready: engine.inThread }))
  }

  /** Has `work` done once, before the store serves its first call. It may run again when it failed. */
  before(store: StoreName, work: () => Promise<void>): void {
    this.#of(store).hooks.push(work)
  }

  /** Answers whether the store is usable, cheaply. */
  gate(store: StoreName): () => boolean {
    const preparation = this.#of(store)
    return () => preparation.ready
  }

  /** Whether the engine is usable. */
  isReady(engine: OpenEngine): boolean {
    return this.#preparations.some((each) => each.engine === engine && each.ready)
  }

  /**
   * Prepares all engines at once. Resolves when each is usable, or after a few seconds for those that do not answer, which are
   * tried on. Rejects, naming the key, when one answers and cannot be used: a wrong credential or schema.
   */
  async start(): Promise<void> {
    const first = this.#preparations.map(async (preparation) => {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      // An embedded database is only slow, and nothing works without it.
      const embedded = preparation.engine.place === "embedded"
      const late = embedded ? undefined : setTimeout(resolve, FIRST_WAIT_MS)
      this.#running.push(this.#prepare(preparation, resolve, reject))
      return promise.finally(() => clearTimeout(late))
    })
    await Promise.all(first)
  }

  /** Tries no more. What hangs in a store is left behind after a few seconds. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    const given = new AbortController()
    await Promise.race([Promise.all(this.#running), pause(STOP_WAIT_MS, given.signal)])
    given.abort()
  }

  #of(store: StoreName): Preparation {
    const found = this.#preparations.find(({ engine }) => engine.stores.includes(store))
    if (found === undefined) throw new Error(`no engine serves the store ${store}`)
    return found
  }

  async #prepare(
    preparation: Preparation,
    settled: () => void,
    failed: (error: unknown) => void,
  ): Promise<void> {
    const { engine } = preparation
    for (let attempt = 0; !this.#stopped.signal.aborted; attempt++) {
      try {
        await this.#attempt(preparation)
        if (attempt > 0) this.#logger.info({ store: engine.name }, "the store is usable now")
        return settled()
      } catch (error) {
        if (!isAway(error)) {
          const told = blame(this.#config, engine.stores, error)
          // After the start nobody waits for the failure: the log is where it is seen.
          if (attempt > 0) this.#logger.error({ store: engine.name, err: told }, "the store cannot be used")
          failed(told)
        } else if (attempt === 0) {
          this.#logger.warn(
            { store: engine.name, place: engine.place, err: error },
            "the store does not answer; its services are not serving until it does",
          )
          settled()
        }
      }
      const wait = Math.min(RETRY_MIN_MS * 2 ** Math.min(attempt, 10), RETRY_MAX_MS)
      await pause(wait * (0.75 + Math.random() / 2), this.#stopped.signal)
    }
  }

  async #attempt(preparation: Preparation): Promise<void> {
    const { engine, hooks } = preparation
    const applied = (await engine.schema?.migrate({ dryRun: false })) ?? []
    if (applied.length > 0)
      this.#logger.info({ store: engine.name, count: applied.length }, "the schema was brought up to date")
    await engine.verify?.()
    for (const work of hooks) await work()
    preparation.ready = true
  }
}

/** Whether a failure says that nobody answered, which time may heal. */
function isAway(error: unknown): boolean {
  return (
    error instanceof DomainError &&
    (error.reason === "STORE_UNAVAILABLE" ||
      error.reason === "DEADLINE_EXCEEDED" ||
      error.reason === "OUTCOME_UNKNOWN")
  )
}
