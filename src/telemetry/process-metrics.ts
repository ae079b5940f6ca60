import { monitorEventLoopDelay } from "node:perf_hooks"
import type { MetricRegistry } from "./metrics.ts"
import { LABEL, METRIC } from "./names.ts"

const NANOSECONDS = 1e9
const RESOLUTION_MS = 20

/** Memory, processor time and event loop of this process. Answers what stops the measuring. */
export function registerProcessMetrics(registry: MetricRegistry, version: string): () => void {
  const resident = registry.gauge(METRIC.residentBytes, "Resident memory in bytes.").with()
  const heap = registry.gauge(METRIC.heapBytes, "Used heap of the JavaScript engine in bytes.").with()
  const cpu = registry.counter(METRIC.cpuSeconds, "Processor time of the process in seconds.").with()
  const lag = registry.gauge(METRIC.eventLoopLag, "How late timers ran since the last scrape, in seconds.", [
    LABEL.quantile,
  ])
  const active = registry.gauge(METRIC.activeResources, "What keeps the event loop busy.", [LABEL.type])
  const types = new Set<string>()
  registry
    .gauge(METRIC.startTime, "Start of the process in seconds since the epoch.")
    .with()
    .set(Math.floor(performance.timeOrigin / 1_000))
  registry.gauge(METRIC.buildInfo, "The version that runs, always 1.", [LABEL.version]).with(version).set(1)
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  registry.onCollect(() => {
    const { rss, heapUsed } = process.memoryUsage()
    resident.set(rss)
    heap.set(heapUsed)
    const { user, system } = process.cpuUsage()
    cpu.value = (user + system) / 1e6
    for (const [name, percentile] of [
      ["0.5", 50],
      ["0.99", 99],
      ["1", 100],
    ] as const) {
      const late = delay.percentile(percentile) / NANOSECONDS - RESOLUTION_MS / 1_000
      lag.with(name).set(Number.isFinite(late) ? Math.max(0, late) : 0)
    }
    delay.reset()
    const counts = new Map([...types].map((type) => [type, 0]))
    for (const type of process.getActiveResourcesInfo()) counts.set(type, (counts.get(type) ?? 0) + 1)
    for (const [type, count] of counts) active.with(type).set(count)
    for (const type of counts.keys()) types.add(type)
  })
  return () => delay.disable()
}
