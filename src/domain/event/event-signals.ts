/** Tells followers that there may be new events: at once for this daemon's appends, by polling for other daemons'. */
import type { Logger } from "../kernel/logger.ts"
import { type CallScope, systemScope, type TenantId } from "../kernel/scope.ts"
import { type Listener, WakeUps } from "../kernel/wake-ups.ts"
import { categoryOf, type FeedCursor } from "./event-model.ts"
import type { EventStore } from "./event-store.ts"

/** What a follower follows. */
export type EventSource =
  | { readonly kind: "all" }
  | { readonly kind: "category"; readonly category: string }
  | { readonly kind: "stream"; readonly stream: string }

/** How {@link EventSignals} works. */
export interface EventSignalOptions {
  /** Most followers at once; one more is OVERLOADED. Default: 10,000. */
  readonly maxFollowers?: number | undefined
  /** Shortest and longest pause between two looks at a tenant's feed, in milliseconds. Default: 250 to 1000. */
  readonly pollMs?: readonly [number, number] | undefined
}

const POLL_EVENTS = 1_000

interface Watch {
  followers: number
  cursor: FeedCursor | undefined
  timer: NodeJS.Timeout | undefined
}

/** One per daemon. It polls only tenants that someone follows. */
export class EventSignals {
  readonly #store: EventStore
  readonly #logger: Logger
  readonly #wakeUps: WakeUps
  readonly #pollMs: readonly [number, number]
  readonly #watches = new Map<TenantId, Watch>()

  constructor(store: EventStore, logger: Logger, options: EventSignalOptions = {}) {
    this.#store = store
    this.#logger = logger
    this.#wakeUps = new WakeUps(options.maxFollowers ?? 10_000)
    this.#pollMs = options.pollMs ?? [250, 1_000]
  }

  /** Followers now. */
  get size(): number {
    return this.#wakeUps.size
  }

  /** Events were appended to a stream. */
  appended(tenant: TenantId, stream: string): void {
    if (this.#wakeUps.size === 0) return
    this.#wakeUps.wake(keyOf(tenant, { kind: "all" }))
    this.#wakeUps.wake(keyOf(tenant, { kind: "category", category: categoryOf(stream) }))
    this.#wakeUps.wake(keyOf(tenant, { kind: "stream", stream }))
  }

  /** Joins. Open it before looking at the store, and close it. Throws OVERLOADED. */
  listen(scope: CallScope, source: EventSource): Listener {
    const listener = this.#wakeUps.listen([keyOf(scope.tenant, source), anyOf(scope.tenant)])
    this.#join(scope.tenant)
    let open = true
    return {
      wait: (ms, signal) => listener.wait(ms, signal),
      close: () => {
        if (!open) return
        open = false
        listener.close()
        this.#leave(scope.tenant)
      },
    }
  }

  #join(tenant: TenantId): void {
    const watch = this.#watches.get(tenant)
    if (watch !== undefined) {
      watch.followers++
      return
    }
    const fresh: Watch = { followers: 1, cursor: undefined, timer: undefined }
    this.#watches.set(tenant, fresh)
    this.#schedule(tenant, fresh)
  }

  #leave(tenant: TenantId): void {
    const watch = this.#watches.get(tenant)
    if (watch === undefined || --watch.followers > 0) return
    clearTimeout(watch.timer)
    this.#watches.delete(tenant)
  }

  #schedule(tenant: TenantId, watch: Watch): void {
    const [shortest, longest] = this.#pollMs
    const pause = shortest + Math.random() * (longest - shortest)
    watch.timer = setTimeout(() => void this.#poll(tenant, watch), pause)
    watch.timer.unref()
  }

  /** Followers look at the store themselves now and then, so a failure here is theirs to report. */
  async #poll(tenant: TenantId, watch: Watch): Promise<void> {
    try {
      const scope = systemScope(tenant)
      if (watch.cursor === undefined) {
        watch.cursor = await this.#store.feedEnd(scope)
        // What came between the followers' first look and this one.
        this.#wakeUps.wake(anyOf(tenant))
      } else {
        const { streams, end } = await this.#store.feedChanges(scope, watch.cursor, POLL_EVENTS)
        watch.cursor = end
        for (const stream of streams) this.appended(tenant, stream)
      }
    } catch (err) {
      this.#logger.warn({ err, tenant }, "the feed could not be polled for other daemons' events")
    }
    if (this.#watches.get(tenant) === watch) this.#schedule(tenant, watch)
  }
}

/** Every follower of a tenant listens to this key too. */
function anyOf(tenant: TenantId): string {
  return `${tenant}/any`
}

function keyOf(tenant: TenantId, source: EventSource): string {
  switch (source.kind) {
    case "all":
      return `${tenant}/all`
    case "category":
      return `${tenant}/category/${source.category}`
    case "stream":
      return `${tenant}/stream/${source.stream}`
  }
}
