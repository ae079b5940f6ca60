/** The outbox of each SQL database, and the relays that this daemon runs over them. */
import { type OperatedOutbox, OutboxOperators } from "../domain/outbox/operators.ts"
import { OUTBOX_STORE_OPERATIONS, type OutboxStore } from "../domain/outbox/ports.ts"
import { Relay, type RelayCounts, type RelayTopic } from "../domain/outbox/relay.ts"
import { createOutboxSignals, type OutboxSignals } from "../domain/outbox/signals.ts"
import { createPostgresOutboxStore } from "../stores/postgres/outbox-store.ts"
import type { Telemetry } from "../telemetry/index.ts"
import type { OpenEngine, StoreName } from "./engines/engine.ts"
import type { Guards } from "./guards.ts"

/** Between two looks where no other daemon can have added anything, in milliseconds: for retries only. */
const ALONE_POLL_MS = [1_000, 2_000] as const

/** The outbox of one database, for the planes whose stores are in it. */
export interface Outbox {
  /** For those who add entries. */
  readonly signals: OutboxSignals
  /** Has the entries of a topic delivered by this daemon. Before the start only. */
  serve(topic: RelayTopic): void
}

interface OwnOutbox extends Outbox {
  readonly engine: OpenEngine
  readonly store: OutboxStore
  readonly topics: RelayTopic[]
}

/** Every outbox; relays run only over those that have a topic to serve. */
export class Outboxes {
  readonly operators: OutboxOperators
  readonly #outboxes: readonly OwnOutbox[]
  readonly #telemetry: Pick<Telemetry, "logger" | "deliveries">
  readonly #relays = new Map<string, Relay>()

  constructor(
    engines: readonly OpenEngine[],
    guards: Guards,
    telemetry: Pick<Telemetry, "logger" | "deliveries">,
  ) {
    this.#telemetry = telemetry
    this.#outboxes = engines.flatMap((engine) => {
      // Whoever opens the breakers of the memory store must not stop audit records with them.
      const home = engine.stores.find((store) => store === "control") ?? engine.stores[0]
      if (engine.handle.kind !== "sql" || home === undefined) return []
      const raw = createPostgresOutboxStore(engine.handle.sql.database)
      const topics: RelayTopic[] = []
      return {
        engine,
        store: guards.guard(home, "outbox", raw, OUTBOX_STORE_OPERATIONS),
        signals: createOutboxSignals(),
        topics,
        serve: (topic: RelayTopic) => topics.push(topic),
      }
    })
    this.operators = new OutboxOperators(this.all())
  }

  /** Every outbox under the name of its engine. */
  all(): readonly OperatedOutbox[] {
    return this.#outboxes.map(({ engine, store, signals }) => ({ name: engine.name, store, signals }))
  }

  /** What this daemon's relays did. */
  counts(): readonly { readonly store: string; readonly topic: string; readonly counts: RelayCounts }[] {
    return [...this.#relays].flatMap(([store, relay]) =>
      [...relay.counts].map(([topic, counts]) => ({ store, topic, counts })),
    )
  }

  /** The outbox of the database behind a store. Throws where that is none. */
  of(store: StoreName): Outbox {
    const found = this.#outboxes.find(({ engine }) => engine.stores.includes(store))
    if (found === undefined) throw new Error(`the store ${store} is not an SQL database`)
    return found
  }

  /** Starts the relays. */
  start(): void {
    for (const { engine, store, signals, topics } of this.#outboxes) {
      if (topics.length === 0) continue
      const pollMs = engine.place === "embedded" ? ALONE_POLL_MS : undefined
      const { logger, deliveries: tracer } = this.#telemetry
      const relay = new Relay({ store, signals, topics, logger, tracer, pollMs })
      this.#relays.set(engine.name, relay)
      relay.start()
    }
  }

  /** Ends them; what they had under way is delivered again by the next daemon. */
  async stop(): Promise<void> {
    await Promise.all([...this.#relays.values()].map((relay) => relay.stop()))
  }
}
