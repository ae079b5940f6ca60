/** What is owed to other stores, as metrics: looked up by a sweeper now and then, for a scrape must not wait for a database. */
import type { OutboxTopicStatus } from "../domain/outbox/model.ts"
import type { MetricRegistry } from "../telemetry/metrics.ts"
import { LABEL, METRIC } from "../telemetry/names.ts"
import type { Outboxes } from "./outboxes.ts"
import type { Sweeper } from "./sweepers.ts"

const INTERVAL_MS = 30_000

/** Registers the metrics and answers the sweeper that keeps them. */
export function registerOutboxMetrics(metrics: MetricRegistry, outboxes: Outboxes): Sweeper {
  const labels = [LABEL.store, LABEL.topic]
  const pending = metrics.gauge(METRIC.outboxPending, "Effects on other stores that are still owed.", labels)
  const parked = metrics.gauge(METRIC.outboxParked, "Owed effects that are not tried any more.", labels)
  const age = metrics.gauge(METRIC.outboxAge, "Age of the oldest effect that is still owed.", labels)
  const entries = metrics.counter(
    METRIC.outboxEntries,
    "Entries of the outbox by what this daemon did with them.",
    [...labels, LABEL.state],
  )
  let seen = new Map<string, readonly OutboxTopicStatus[]>()
  metrics.onCollect(() => {
    // A topic that owes nothing any more is not in the list.
    for (const family of [pending, parked, age]) family.clear()
    for (const [store, topics] of seen) {
      for (const status of topics) {
        pending.with(store, status.topic).set(Number(status.pending))
        parked.with(store, status.topic).set(Number(status.parked))
        age.with(store, status.topic).set((status.oldestAgeMs ?? 0) / 1_000)
      }
    }
    for (const { store, topic, counts } of outboxes.counts()) {
      for (const [state, count] of Object.entries(counts)) entries.with(store, topic, state).countedTo(count)
    }
  })
  return {
    name: "outbox-metrics",
    intervalMs: INTERVAL_MS,
    run: async (scope) => {
      const fresh = new Map<string, readonly OutboxTopicStatus[]>()
      const looks = outboxes.all().map(async ({ name, store }) => {
        fresh.set(name, await store.status(scope))
      })
      const results = await Promise.allSettled(looks)
      seen = fresh
      const failed = results.find((result) => result.status === "rejected")
      if (failed !== undefined) throw failed.reason
      return { removed: 0, more: false }
    },
  }
}
