/**
 * More calls than the daemon can serve, arriving at their own pace whatever becomes of those before: it goes on serving as many as it can,
 * tells the others to come back later, does not grow, stays healthy, and is fair to tenants. Figures are reported; what is asserted is generous,
 * for machines are shared.
 */
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { after, before, describe, it, type TestContext } from "node:test"
import { create } from "@bufbuild/protobuf"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { MemoryService, VectorSchema } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"

const DIMENSION = 128
/** Exact search over so many takes the database some milliseconds, and the daemon itself next to nothing. */
const RECORDS = 2_000
const PEAK_MS = 4_000
const OVERLOAD_MS = 8_000
const MOST_DOUBLINGS = 4
/** As many as the store is given at a time, so that nobody waits in line while the peak is measured. */
const IN_FLIGHT = 8
const DEADLINE_MS = 20_000
const WAIT_MS = 2_000
/** What may be asserted of machines on which anything may run beside the test. */
const LEAST_GOODPUT = 0.5
const LONGEST_MS = 15_000
const MOST_GROWTH_MIB = 200
/** Of what is his due: all that he asks for, or else half of what is served. */
const LEAST_SHARE = 0.5

/** What became of the calls of one load. */
class Load {
  readonly latencies: number[] = []
  readonly failures: CallError[] = []

  get answered(): number {
    return this.latencies.length
  }

  percentile(share: number): number {
    const sorted = this.latencies.toSorted((a, b) => a - b)
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  }

  async call(channel: Channel): Promise<void> {
    const start = performance.now()
    try {
      await search(channel)
      this.latencies.push(performance.now() - start)
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      this.failures.push(error)
    }
  }
}

const vectorOf = (seed: number) => Array.from({ length: DIMENSION }, (_, i) => Math.sin(seed * 31 + i * 7))

async function search(channel: Channel): Promise<void> {
  const values = vectorOf(Math.random())
  const vector = create(VectorSchema, { data: { case: "values", value: { values } } })
  const request = {
    collectionId: "load",
    query: { target: { case: "vector", value: vector } as const, topK: 5 },
  }
  await channel.stub(MemoryService).search(request, { timeoutMs: DEADLINE_MS })
}

async function fill(channel: Channel): Promise<void> {
  const memory = channel.stub(MemoryService)
  await memory.createCollection({ collection: { id: "load", dimension: DIMENSION } })
  for (let first = 0; first < RECORDS; first += 500) {
    const records = Array.from({ length: 500 }, (_, n) => {
      const vector = { data: { case: "values", value: { values: vectorOf(first + n) } } } as const
      return { id: `r-${first + n}`, vector }
    })
    await memory.upsertRecords({ collectionId: "load", records })
  }
}

/** Calls per second with always as many under way, which is the most that the daemon serves. */
async function peak(channel: Channel): Promise<number> {
  const load = new Load()
  const end = performance.now() + PEAK_MS
  const one = async () => {
    while (performance.now() < end) await load.call(channel)
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, one))
  assert.deepEqual(load.failures, [])
  return (load.answered * 1_000) / PEAK_MS
}

/** Calls that arrive `perSecond` for a while, whether or not those before were answered. Resolves when each has ended. */
async function arriving(channel: Channel, perSecond: number, load: Load, ms = OVERLOAD_MS): Promise<void> {
  const calls: Promise<void>[] = []
  const start = performance.now()
  for (let now = start; now < start + ms; now = performance.now()) {
    while (calls.length < ((now - start) * perSecond) / 1_000) calls.push(load.call(channel))
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await Promise.all(calls)
}

/** Twice the capacity, or more where the machine has become faster since that was measured. */
async function untilShed(rate: number, flood: (rate: number) => Promise<Load>): Promise<Load> {
  for (let doubled = 0; ; doubled++) {
    const load = await flood(2 * rate * 2 ** doubled)
    if (load.failures.length > 0) return load
    assert.ok(doubled < MOST_DOUBLINGS, "nothing was shed, so that this was no overload")
  }
}

/** Resident memory in MiB; NaN where the system does not tell. */
function residentMiB({ process: { pid } }: Daemon): number {
  try {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024
  } catch {
    return Number.NaN
  }
}

function assertToldToComeBack(failures: readonly CallError[]): void {
  for (const failure of failures) {
    assert.deepEqual([failure.code, failure.reason], [8, "OVERLOADED"], failure.message)
    assert.ok(failure.retryInfo, "without RetryInfo")
    assert.ok(Number(failure.trailers.get("grpc-retry-pushback-ms")[0]) >= 0, "without pushback")
  }
}

/** Asks what must always be answered, again and again; answers how often that was. */
async function watch(daemon: Daemon, isOver: () => boolean): Promise<number> {
  const channel = daemon.channel()
  let rounds = 0
  try {
    for (; !isOver(); rounds++) {
      const [live, ready] = await Promise.all(
        ["livez", "readyz"].map((path) => fetch(`http://${daemon.opsAddress}/${path}`)),
      )
      assert.deepEqual([live?.status, ready?.status], [200, 200])
      await channel.stub(AdminService).getStatus({})
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  } finally {
    channel.close()
  }
  return rounds
}

describe("more than the daemon can serve", { timeout: 300_000 }, () => {
  let daemon: Daemon
  const channels: Channel[] = []
  const tenants: Channel[] = []
  let capacity = 0

  async function tenant(name: string): Promise<Channel> {
    const control = channels[0]?.stub(ControlService)
    await control?.createTenant({ tenant: { tenantId: name } })
    const headers = { "x-keelplane-tenant": name }
    const key = await control?.createApiKey({ name: "all", permissions: ["*"] }, { headers })
    const channel = daemon.channel({ authorization: `Bearer ${key?.token}` })
    channels.push(channel)
    await fill(channel)
    return channel
  }

  before(async () => {
    daemon = await startDaemon({
      env: {
        KEELPLANE_STORES__MEMORY__BULKHEAD__CONCURRENCY: String(IN_FLIGHT),
        KEELPLANE_STORES__MEMORY__BULKHEAD__QUEUE: "64",
        KEELPLANE_STORES__MEMORY__BULKHEAD__WAIT_MS: String(WAIT_MS),
      },
    })
    channels.push(daemon.channel())
    tenants.push(await tenant("greedy"), await tenant("modest"))
    capacity = await peak(tenants[0] as Channel)
  })

  after(async () => {
    for (const channel of channels) channel.close()
    await daemon?.stop()
  })

  it("is refused, at the peak's goodput, in bounded time and memory, while health is told", async (t: TestContext) => {
    const [greedy] = tenants
    assert.ok(greedy !== undefined)
    const before = residentMiB(daemon)
    let over = false
    const watching = watch(daemon, () => over)
    const load = await untilShed(capacity, async (rate) => {
      const flood = new Load()
      await arriving(greedy, rate, flood)
      return flood
    })
    over = true
    const goodput = (load.answered * 1_000) / OVERLOAD_MS / capacity
    const grown = residentMiB(daemon) - before
    t.diagnostic(
      `peak ${capacity.toFixed(0)}/s; overloaded: goodput ${goodput.toFixed(2)} of it, ${load.failures.length} of ${load.failures.length + load.answered} shed, p50 ${load.percentile(0.5).toFixed(0)} ms, p99 ${load.percentile(0.99).toFixed(0)} ms, memory ${grown >= 0 ? "+" : ""}${grown.toFixed(0)} MiB, health told ${await watching} times`,
    )
    assertToldToComeBack(load.failures)
    assert.ok(goodput >= LEAST_GOODPUT, `goodput ${goodput} of the peak`)
    assert.ok(load.percentile(0.99) < LONGEST_MS, `p99 ${load.percentile(0.99)} ms`)
    assert.ok(!(grown > MOST_GROWTH_MIB), `grew by ${grown} MiB`)
  })

  it("of one tenant does not starve another", async (t: TestContext) => {
    const [greedy, modest] = tenants
    assert.ok(greedy !== undefined && modest !== undefined)
    let little = new Load()
    const much = await untilShed(capacity, async (rate) => {
      const flood = new Load()
      little = new Load()
      await Promise.all([arriving(greedy, rate, flood), arriving(modest, rate / 16, little)])
      return flood
    })
    const asked = little.answered + little.failures.length
    const share = little.answered / Math.min(asked, (little.answered + much.answered) / 2)
    t.diagnostic(
      `greedy: ${much.answered} answered, ${much.failures.length} shed; modest: ${little.answered} answered, ${little.failures.length} shed, p99 ${little.percentile(0.99).toFixed(0)} ms`,
    )
    assertToldToComeBack([...much.failures, ...little.failures])
    assert.ok(share >= LEAST_SHARE, `the modest tenant had only ${share} of his due`)
  })

  it("does not keep it from draining", async () => {
    const [greedy] = tenants
    assert.ok(greedy !== undefined)
    const load = new Load()
    const flood = arriving(greedy, 2 * capacity, load, 3_000)
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    await channels[0]?.stub(AdminService).drain({})
    assert.equal(await daemon.end("SIGCONT"), 0)
    await flood
    const odd = load.failures.filter(({ code }) => code !== 8 && code !== 14)
    assert.deepEqual(odd, [])
  })
})
