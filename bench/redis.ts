/**
 * `npm run bench -- --redis [--rounds N] [--ms N]`: Get and Set on a Redis or Valkey server by the bare driver, by the store's adapter
 * and by the daemon over gRPC, all measured in turn within each round, with an empty handler on the same transport beside them.
 */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import { formatTable } from "../demo/latency.ts"
import { startDaemon } from "../test/support/daemon.ts"
import { launchRedis, serverTool } from "../test/support/redis-server.ts"
import { pathOf } from "../test/support/tools.ts"
import { cases, prepareCache } from "./cases.ts"
import { cpuMicros, type Result, send } from "./load.ts"
import { median, startFloor } from "./measure.ts"
import type { WorkerLoad } from "./redis-worker.ts"

const WAYS = ["empty handler", "bare driver", "adapter", "daemon"] as const
type Way = (typeof WAYS)[number]

/** What one way did in one round, and what the server spent on it. */
interface Measured extends Result {
  readonly serverCpu: number
}

async function startWorker(kind: string, url: string): Promise<ChildProcess> {
  const worker = fork(fileURLToPath(new URL("./redis-worker.ts", import.meta.url)), [kind, url])
  await once(worker, "message")
  return worker
}

async function ask(worker: ChildProcess, load: WorkerLoad): Promise<Result> {
  worker.send(load)
  const [result] = await once(worker, "message")
  return result as Result
}

/** How much CPU a call of the daemon may cost, over an empty handler and the bare driver's call together. */
const TARGET = 1.25

function rowsOf(
  operation: string,
  inFlight: number,
  rounds: readonly Readonly<Record<Way, Measured>>[],
): string[][] {
  return WAYS.map((way) => {
    const of = (pick: (round: Readonly<Record<Way, Measured>>) => number) => median(rounds.map(pick))
    const ratio = of((round) => round[way].cpu / (round["empty handler"].cpu + round["bare driver"].cpu))
    return [
      operation,
      way,
      String(inFlight),
      of((round) => round[way].perSecond).toFixed(0),
      of((round) => round[way].perSecond / round["bare driver"].perSecond).toFixed(2),
      of((round) => round[way].p50).toFixed(0),
      of((round) => round[way].cpu).toFixed(1),
      ratio.toFixed(2),
      way === "empty handler" ? "-" : of((round) => round[way].serverCpu).toFixed(1),
    ]
  })
}

/** Measures and prints. */
export async function benchRedis(rounds: number, durationMs: number): Promise<void> {
  const server = await launchRedis(pathOf(await serverTool()))
  const floor = await startFloor()
  const [bare, adapter] = [await startWorker("bare", server.url), await startWorker("adapter", server.url)]
  const daemon = await startDaemon({ env: { KEELPLANE_STORES__CACHE__URL: server.url } })
  const channel = daemon.channel()
  try {
    await prepareCache(channel)
    const table: string[][] = []
    for (const operation of ["get", "set"] as const) {
      const name = `CacheService.${operation === "get" ? "Get" : "Set"}`
      const load = cases().find((each) => each.name === name)
      const get = cases().find((each) => each.name === "CacheService.Get")
      if (load === undefined || get === undefined) throw new Error(`no case ${name}`)
      for (const inFlight of [64, 1]) {
        const ways: Readonly<Record<Way, () => Promise<Result>>> = {
          "empty handler": () => send(floor.address, floor.pid, { ...get, inFlight, durationMs }),
          "bare driver": () => ask(bare, { operation, inFlight, durationMs }),
          adapter: () => ask(adapter, { operation, inFlight, durationMs }),
          daemon: () => send(daemon.address, daemon.process.pid ?? 0, { ...load, inFlight, durationMs }),
        }
        const measured: Record<Way, Measured>[] = []
        // The first round warms up.
        for (let round = 0; round <= rounds; round++) {
          const entries: [Way, Measured][] = []
          for (const way of WAYS) {
            const before = cpuMicros(server.pid)
            const result = await ways[way]()
            entries.push([way, { ...result, serverCpu: (cpuMicros(server.pid) - before) / result.calls }])
          }
          if (round > 0) measured.push(Object.fromEntries(entries) as Record<Way, Measured>)
        }
        table.push(...rowsOf(operation, inFlight, measured))
      }
    }
    console.log(`${rounds} rounds of ${durationMs} ms; target: CPU ratio of the daemon at most ${TARGET}\n`)
    const head = [
      "call",
      "by",
      "in flight",
      "calls/s",
      "to bare",
      "p50 us",
      "CPU us",
      "CPU ratio",
      "server CPU us",
    ]
    console.log(formatTable([head, ...table]))
  } finally {
    channel.close()
    for (const child of [floor.process, bare, adapter]) child.kill()
    await daemon.stop()
    await server.stop()
  }
}
