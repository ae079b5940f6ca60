/**
 * The driver in a process of its own: `bare-worker.ts KIND URL` opens ./bare-KIND, takes loads as messages from its parent and answers
 * what it measured.
 */
import { percentile, type Result } from "../load.ts"
import type { BareCalls, BareLoad, OpenBare } from "./bare.ts"

const [, , kind = "", url = ""] = process.argv

async function measure(calls: BareCalls, load: BareLoad): Promise<Result> {
  const call = calls[load.call]
  if (call === undefined) throw new Error(`${kind} has no ${load.call}`)
  const latencies: number[] = []
  const cpu = process.cpuUsage()
  const started = performance.now()
  const places = Array.from({ length: load.inFlight }, async () => {
    while (performance.now() - started < load.durationMs || next < load.leastCalls) {
      const begun = performance.now()
      await call(next++)
      latencies.push((performance.now() - begun) * 1_000)
    }
  })
  await Promise.all(places)
  const seconds = (performance.now() - started) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  const sorted = Float64Array.from(latencies).sort()
  return {
    calls: latencies.length,
    perSecond: latencies.length / seconds,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    cpu: (user + system) / latencies.length,
  }
}

let next = 0
const { open } = (await import(`./bare-${kind}.ts`)) as { open: OpenBare }
const calls = await open(url)
process.on("message", (load: BareLoad) => {
  next = 0
  measure(calls, load).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      throw error
    },
  )
})
process.send?.("ready")
