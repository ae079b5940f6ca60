/**
 * Non-interference: what a tenant is answered must not depend on whether another tenant exists. One daemon has a tenant that
 * did everything under the very same names; a second daemon has never heard of it. The observer's answers must be equal.
 */
import assert from "node:assert/strict"
import test, { after, before } from "node:test"
import type { JsonValue } from "@bufbuild/protobuf"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { outcome } from "./outcome.ts"
import { invoke, METHODS, play } from "./registry.ts"
import { EPILOGUE, PLATFORM_RPCS, SCENARIO, type Seen } from "./scenario.ts"

let crowded: Daemon
let empty: Daemon
let victim: Channel
const observers: Channel[] = []
const channels: Channel[] = []

/** Makes a tenant and a key for it; answers a channel that uses the key. */
async function tenantChannel(daemon: Daemon, tenant: string): Promise<Channel> {
  const platform = daemon.channel()
  channels.push(platform)
  const control = platform.stub(ControlService)
  await control.createTenant({ tenant: { tenantId: tenant } })
  const key = await control.createApiKey(
    { name: "all", permissions: ["*"] },
    { headers: { "x-keelplane-tenant": tenant } },
  )
  const channel = daemon.channel({ authorization: `Bearer ${key.token}` })
  channels.push(channel)
  return channel
}

before(async () => {
  crowded = await startDaemon()
  empty = await startDaemon()
  victim = await tenantChannel(crowded, "victim")
  observers.push(await tenantChannel(crowded, "observer"), await tenantChannel(empty, "observer"))
})

after(async () => {
  for (const channel of channels) channel.close()
  await Promise.all([crowded?.stop(), empty?.stop()])
})

test("the scenario calls every RPC that a tenant may call", () => {
  const called = new Set([...SCENARIO, ...EPILOGUE].map((step) => step.rpc))
  const missing = [...METHODS.keys()].filter((rpc) => !called.has(rpc) && !PLATFORM_RPCS.includes(rpc))
  assert.deepEqual(missing, [])
})

test("a tenant's credential may not call what belongs to the platform", async () => {
  for (const rpc of PLATFORM_RPCS) {
    await assert.rejects(invoke(victim, rpc, {}), (error) => {
      assert.ok(error instanceof CallError)
      assert.equal(error.code, 7, `${rpc} answered ${error.message}`)
      assert.equal(error.reason, "PERMISSION_DENIED")
      return true
    })
  }
})

test("another tenant's names and ids are like absent ones, in every RPC, and touching them changes nothing", async () => {
  const seen: Seen = new Map()
  const before = new Map<string, JsonValue>()
  for (const step of SCENARIO) await play(victim, step, seen)
  const reads = SCENARIO.filter(
    (step) =>
      /\/(Get|List|Count|Query|Summarize|Check|BatchCheck)/.test(step.rpc) && !/RateLimit/.test(step.rpc),
  )
  for (const step of reads)
    before.set(step.rpc, await outcome(() => invoke(victim, step.rpc, step.request(seen), step.frames)))

  // The observer uses the victim's own ids and tokens, in calls that need them to exist.
  for (const step of SCENARIO) {
    if (
      /\/(Create|Upsert|Import|Append|Enqueue|Record|Set|Put|Batch|Push|HashSet|ListPush|SortedSetAdd|Increment|HashIncrement|SortedSetIncrement|Acquire|Check|Execute|Pipeline|RunScript|Publish|Subscribe|Reserve|Assign|Watch)/.test(
        step.rpc,
      )
    )
      continue
    const [here, there] = await Promise.all(
      observers.map((channel) => outcome(() => invoke(channel, step.rpc, step.request(seen), step.frames))),
    )
    assert.deepEqual(here, there, step.rpc)
  }

  for (const step of reads) {
    const now = await outcome(() => invoke(victim, step.rpc, step.request(seen), step.frames))
    assert.deepEqual(
      now,
      before.get(step.rpc),
      `${step.rpc} answers the owner something else after the observer's calls`,
    )
  }
})

test("the same life under the same names is answered the same, with and without the other tenant", async () => {
  const lives = observers.map((): Seen => new Map())
  for (const step of [...SCENARIO, ...EPILOGUE]) {
    const [here, there] = await Promise.all(
      observers.map((channel, index) => outcome(() => play(channel, step, lives[index] ?? new Map()))),
    )
    assert.deepEqual(here, there, step.rpc)
    assert.ok(
      here && typeof here === "object" && "answer" in here,
      `${step.rpc} failed: ${JSON.stringify(here)}`,
    )
  }
})

test("the header that names a tenant is for platform credentials alone", async () => {
  const daemonKey = observers[0]
  assert.ok(daemonKey)
  const method = METHODS.get("CacheService/Get")
  assert.ok(method)
  await assert.rejects(
    daemonKey.unary(method, { key: "k" }, { headers: { "x-keelplane-tenant": "victim" } }),
    (error) => error instanceof CallError && error.code === 7,
  )
})
