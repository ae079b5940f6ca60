/**
 * GET and SET without gRPC, in a process of its own: by the bare driver, and by the store's adapter. Takes loads as messages from its
 * parent and answers what it measured; see ./redis.
 */
import { Redis } from "ioredis"
import { Namespaces } from "../src/domain/cache/namespaces.ts"
import { DEFAULT_TENANT, systemScope } from "../src/domain/kernel/scope.ts"
import { openRedis } from "../src/stores/redis/index.ts"
import { percentile, type Result } from "./load.ts"

/** What the parent asks for. */
export interface WorkerLoad {
  readonly operation: "get" | "set"
  readonly inFlight: number
  readonly durationMs: number
}

type Call = (operation: "get" | "set", index: number) => Promise<unknown>

const [, , kind = "", url = ""] = process.argv
const value = Buffer.alloc(128, 7)
const key = (index: number) => `key-${index % 1_000}`

async function bare(): Promise<Call> {
  const client = new Redis(url, { enableAutoPipelining: true })
  for (let index = 0; index < 1_000; index++) await client.set(key(index), value)
  return (operation, index) =>
    operation === "get" ? client.getBuffer(key(index)) : client.set(key(index), value)
}

async function adapter(): Promise<Call> {
  const { cache } = await openRedis({ url, prefix: "bench" })
  const namespace = new Namespaces().resolve("")
  const scope = systemScope(DEFAULT_TENANT)
  const content = { case: "data", value } as const
  const set = (index: number) => {
    return cache.write(scope, {
      kind: "set",
      namespace,
      key: key(index),
      content,
      contentType: "",
      expiration: undefined,
      keepExpiration: false,
      condition: "always",
      ifRevision: undefined,
      tags: [],
    })
  }
  for (let index = 0; index < 1_000; index++) await set(index)
  return async (operation, index) =>
    operation === "get" ? await cache.get(scope, namespace, key(index)) : await set(index)
}

async function measure(call: Call, { operation, inFlight, durationMs }: WorkerLoad): Promise<Result> {
  const latencies: number[] = []
  const cpu = process.cpuUsage()
  const started = performance.now()
  let next = 0
  const places = Array.from({ length: inFlight }, async () => {
    while (performance.now() - started < durationMs) {
      const begun = performance.now()
      await call(operation, next++)
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

const call = await (kind === "bare" ? bare() : adapter())
process.on("message", (load: WorkerLoad) => {
  measure(call, load).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      throw error
    },
  )
})
process.send?.("ready")
