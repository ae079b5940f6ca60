/** Every mutation of the scenario, sent twice with its request_id: the first answer again, and no second effect. */
import assert from "node:assert/strict"
import test, { after, before } from "node:test"
import type { JsonValue } from "@bufbuild/protobuf"
import { type Daemon, startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { invoke, methodOf } from "./registry.ts"
import { EPILOGUE, SCENARIO, type Seen } from "./scenario.ts"

let daemon: Daemon
let channel: Channel

before(async () => {
  daemon = await startDaemon()
  channel = daemon.channel()
})

after(async () => {
  channel?.close()
  await daemon?.stop()
})

test("a repeated request_id answers the first answer", async (t) => {
  const seen: Seen = new Map()
  for (const step of [...SCENARIO, ...EPILOGUE]) {
    const request = step.request(seen)
    const first = await invoke(channel, step.rpc, request, step.frames)
    step.keep?.(first as Record<string, JsonValue>, seen)
    const repeatable =
      methodOf(step.rpc).methodKind === "unary" && JSON.stringify(request).includes('"requestId"')
    if (!repeatable) continue
    await t.test(step.rpc, async () => {
      assert.deepEqual(await invoke(channel, step.rpc, request), first)
    })
  }
})

test("a request_id with another body is refused", async () => {
  const first = { key: "reused", text: "a", requestId: "once" }
  await invoke(channel, "CacheService/Set", first)
  for (const [rpc, one, other] of [
    ["CacheService/Set", first, { ...first, text: "b" }],
    [
      "EventService/AppendEvents",
      { stream: "reuse-1", events: [{ type: "a" }], requestId: "once" },
      { stream: "reuse-1", events: [{ type: "b" }], requestId: "once" },
    ],
    [
      "ControlService/PutConfig",
      { key: "reuse", structValue: { a: 1 }, requestId: "once" },
      { key: "reuse", structValue: { a: 2 }, requestId: "once" },
    ],
    [
      "JobService/EnqueueJob",
      { job: { queue: "reuse" }, requestId: "once" },
      { job: { queue: "reuse", priority: 1 }, requestId: "once" },
    ],
  ] as const) {
    await invoke(channel, rpc, one as JsonValue)
    await assert.rejects(invoke(channel, rpc, other as JsonValue), (error) => {
      assert.ok(error instanceof CallError)
      assert.equal(error.code, 3)
      assert.equal(error.reason, "REQUEST_ID_REUSED", `${rpc}: ${error.message}`)
      return true
    })
  }
})
