/**
 * Bad input where each store is on a server of its own kind: it passes what reaches stores of the suites of the embedded default, and every hostile request
 * gets the status, the reason and the fields that it gets there.
 */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf"
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { everySkip, onEverything } from "../engines/mixes.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { storesBadInputSuite } from "./bad-input.ts"
import { COLLECTION, HOSTILE, type Hostility, hostilities } from "./hostile.ts"
import { outcome } from "./outcome.ts"
import { randomMessagesSuite } from "./random-messages.ts"
import { invoke, methodOf, play } from "./registry.ts"
import { SCENARIO, type Seen } from "./scenario.ts"

/** How long hostile requests are sent; they come in an order of their own, the same each time. `KEELPLANE_HOSTILE_SECONDS` deepens it. */
const SECONDS = Number(process.env.KEELPLANE_HOSTILE_SECONDS ?? 40)
const RUNS = Number(process.env.KEELPLANE_FUZZ_RUNS ?? 5)
/** How many are sent at once that change nothing. */
const AT_ONCE = 16
/** How long a stream that was not refused has for its first answer. */
const FIRST_MS = 2_000
const TENANT = "hostile"

let mix: Daemon
/** Of nobody in particular, and of the tenant that hostile requests are about. */
let channel: Channel
let tenant: Channel

describe("on a mix of engines", { skip: everySkip, timeout: 900_000 }, () => {
  before(async () => {
    mix = await startDaemon({ env: await onEverything(), readyTimeoutMs: 120_000 })
    channel = mix.channel()
    tenant = await asTenant(mix)
  })
  after(async () => {
    for (const each of [channel, tenant]) each?.close()
    await mix?.stop()
  })

  it("hostile requests end as they do on the embedded default", hostile)
  storesBadInputSuite(async () => mix)
  randomMessagesSuite(
    () => mix,
    () => channel,
    RUNS,
  )
})

async function asTenant(daemon: Daemon): Promise<Channel> {
  const platform = daemon.channel()
  await platform.stub(ControlService).createTenant({ tenant: { tenantId: TENANT } })
  platform.close()
  return daemon.channel({ "x-keelplane-tenant": TENANT })
}

/** What a life on a daemon leaves. */
interface Life {
  /** The last good request of each RPC. */
  readonly good: ReadonlyMap<string, JsonValue>
  readonly seen: Seen
}

async function live(on: Channel): Promise<Life> {
  const good = new Map<string, JsonValue>()
  const seen: Seen = new Map()
  for (const step of SCENARIO) {
    good.set(step.rpc, step.request(seen))
    await play(on, step, seen)
  }
  await invoke(on, "MemoryService/CreateCollection", COLLECTION)
  return { good, seen }
}

const reads = (rpc: string) =>
  methodOf(rpc).methodKind !== "unary" ||
  methodOf(rpc).idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS

/** How one ends: what failed, or that it did not, and what was read. */
async function end(on: Channel, { seen }: Life, rpc: string, request: JsonValue): Promise<string> {
  const method = methodOf(rpc)
  let fields: readonly string[] = []
  const answer = await outcome(async () => {
    try {
      if (method.methodKind === "unary") return read(rpc, await invoke(on, rpc, request))
      const input = fromJson(method.input, request)
      for await (const _ of on.stream(method, input, { timeoutMs: FIRST_MS })) break
      return "begun"
    } catch (error) {
      if (!(error instanceof CallError)) throw error
      // Nothing came in time, which is what most streams do.
      if (error.code === 4 && method.methodKind !== "unary") return "begun"
      fields = error.fields
      throw error
    }
  })
  let text = JSON.stringify({ ...(answer as Record<string, JsonValue>), fields })
  for (const [name, value] of seen) text = text.replaceAll(value, `<${name}>`)
  return text
}

/** What of an answer must be the same on all engines. */
function read(rpc: string, answer: JsonValue): JsonValue {
  // An audit record of what another store did comes after that, and hits of one score come in any order.
  if (!reads(rpc) || /^AuditService|Search$/.test(rpc)) return "done"
  return JSON.parse(JSON.stringify(answer), (name, value: unknown) => {
    if (name === "keys" && Array.isArray(value))
      return value.map((each) => (each as { key?: string }).key).sort()
    return name === "storageMode" ? "" : value
  }) as JsonValue
}

async function hostile(t: { diagnostic(text: string): void }): Promise<void> {
  const embedded = await startDaemon()
  const there = await asTenant(embedded)
  try {
    const [mine, theirs] = await Promise.all([live(tenant), live(there)])
    const differences: string[] = []
    let asked = 0
    const ask = async ({ rpc, what, of }: Hostility) => {
      const [one, other] = [mine, theirs].map(({ good }) => of(good.get(rpc) ?? {}))
      if (one === undefined || other === undefined || !canBeSent(rpc, one)) return
      asked++
      const [actual, wanted] = await Promise.all([
        end(tenant, mine, rpc, one),
        end(there, theirs, rpc, other),
      ])
      if (actual === wanted) return
      differences.push(`${rpc} ${what}: ${actual.slice(0, 600)} instead of ${wanted.slice(0, 600)}`)
    }
    for (const each of HOSTILE) await ask(each)
    const all = shuffled([...mine.good].flatMap(([rpc, good]) => [...hostilities(rpc, good)]))
    const [writes, others] = [all.filter(({ rpc }) => !reads(rpc)), all.filter(({ rpc }) => reads(rpc))]
    let until = Date.now() + SECONDS * 500
    for (const each of writes) if (Date.now() < until) await ask(each)
    until = Date.now() + SECONDS * 500
    for (let at = 0; at < others.length && Date.now() < until; at += AT_ONCE)
      await Promise.all(others.slice(at, at + AT_ONCE).map(ask))
    t.diagnostic(`${asked} of ${all.length + HOSTILE.length} hostile requests were sent`)
    assert.equal(differences.length, 0, `${differences.length} differ:\n${differences.join("\n")}`)
  } finally {
    there.close()
    await embedded.stop()
  }
}

/** Whether a client could send it: streams of the client's are others' affair. */
function canBeSent(rpc: string, request: JsonValue): boolean {
  const method = methodOf(rpc)
  if (method.methodKind !== "unary" && method.methodKind !== "server_streaming") return false
  try {
    toBinary(method.input, fromJson(method.input, request))
    return true
  } catch {
    return false
  }
}

/** In an order that has nothing to do with where it came from, the same each time. */
function shuffled<T>(all: readonly T[]): readonly T[] {
  return all
    .map((each, at) => [Math.imul(at + 1, 2_654_435_761) >>> 0, each] as const)
    .sort(([left], [right]) => left - right)
    .map(([, each]) => each)
}
