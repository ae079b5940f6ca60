/** Health, reflection, and the edge's other protocols. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { fromBinary } from "@bufbuild/protobuf"
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt"
import { Code, ConnectError, createClient } from "@connectrpc/connect"
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node"
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from "../../src/gen/grpc/health/v1/health_pb.ts"
import { ServerReflection } from "../../src/gen/grpc/reflection/v1/reflection_pb.ts"
import { ServerReflection as ServerReflectionAlpha } from "../../src/gen/grpc/reflection/v1alpha/reflection_pb.ts"
import { type Edge, open } from "./support/harness.ts"
import { ProbeDesc } from "./support/probe.ts"

const PROBE = "keelplane.probe.v1.ProbeService"
const grpc = (edge: Edge, port = edge.tcp.port) =>
  createGrpcTransport({ baseUrl: `http://127.0.0.1:${port}` })

async function reason(call: Promise<unknown>): Promise<string | undefined> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  )
  return error?.findDetails(ErrorInfoSchema)[0]?.reason
}

describe("health", { timeout: 60_000 }, () => {
  it("is told per service, also without a credential and on the ops port", async () => {
    await using edge = await open("grpc-js tcp", { authenticator: { authenticate: () => undefined } })
    for (const port of [edge.tcp.port, edge.ops.port]) {
      const client = createClient(Health, grpc(edge, port))
      assert.equal((await client.check({})).status, Serving.SERVING)
      edge.server.health.set(PROBE, false)
      assert.equal((await client.check({ service: PROBE })).status, Serving.NOT_SERVING)
      assert.equal((await client.check({})).status, Serving.SERVING)
      edge.server.health.set(PROBE, true)
      assert.equal((await client.check({ service: PROBE })).status, Serving.SERVING)
      assert.equal(await reason(client.check({ service: "nobody" })), "NOT_FOUND")
      assert.deepEqual(Object.keys((await client.list({})).statuses).sort(), ["", PROBE])
    }
  })

  it("can be watched, and a drain is heard before the stream ends", async () => {
    await using edge = await open("grpc-js tcp")
    const seen: Serving[] = []
    const watch = async () => {
      for await (const { status } of createClient(Health, grpc(edge)).watch({ service: PROBE })) {
        seen.push(status)
        if (seen.length === 1) edge.server.health.set(PROBE, false)
        if (seen.length === 2) edge.server.health.set(PROBE, true)
        if (seen.length === 3) edge.server.drain(5000)
      }
    }
    assert.equal(await reason(watch()), "DRAINING")
    assert.deepEqual(seen, [Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING, Serving.NOT_SERVING])
  })

  it("of an unknown service is SERVICE_UNKNOWN until it is known", async () => {
    await using edge = await open("grpc-js tcp")
    const seen: Serving[] = []
    for await (const { status } of createClient(Health, grpc(edge)).watch({ service: "late" })) {
      seen.push(status)
      if (seen.length === 2) break
      edge.server.health.set("late", true)
    }
    assert.deepEqual(seen, [Serving.SERVICE_UNKNOWN, Serving.SERVING])
  })
})

describe("reflection", { timeout: 60_000 }, () => {
  type Ask = { case: "listServices" | "fileContainingSymbol" | "fileByFilename"; value: string }

  for (const service of [ServerReflection, ServerReflectionAlpha] as const) {
    it(`answers in ${service.typeName}`, async () => {
      await using edge = await open("grpc-js tcp")
      const client = createClient(service as typeof ServerReflection, grpc(edge))
      const ask = async (messageRequest: Ask) => {
        async function* requests() {
          yield { host: "h", messageRequest }
        }
        for await (const answer of client.serverReflectionInfo(requests())) return answer
        throw new Error("no answer")
      }
      const list = await ask({ case: "listServices", value: "*" })
      assert.equal(list.validHost, "h")
      assert.ok(list.messageResponse.case === "listServicesResponse")
      const names = list.messageResponse.value.service.map(({ name }) => name)
      assert.ok(names.includes(PROBE) && names.includes(service.typeName))
      for (const value of [PROBE, `${PROBE}.Echo`, "keelplane.probe.v1.Mood", "google.rpc.ErrorInfo"]) {
        const { messageResponse } = await ask({ case: "fileContainingSymbol", value })
        assert.ok(messageResponse.case === "fileDescriptorResponse", value)
        const [file] = messageResponse.value.fileDescriptorProto
        assert.ok(fromBinary(FileDescriptorProtoSchema, file ?? new Uint8Array()).name.endsWith(".proto"))
      }
      const missing = await ask({ case: "fileByFilename", value: "nothing.proto" })
      assert.ok(missing.messageResponse.case === "errorResponse")
      assert.equal(missing.messageResponse.value.errorCode, 5)
    })
  }

  it("can be switched off, and needs a credential where there are any", async () => {
    async function* requests() {
      yield { messageRequest: { case: "listServices" as const, value: "" } }
    }
    const ask = async (edge: Edge) => {
      for await (const _ of createClient(ServerReflection, grpc(edge)).serverReflectionInfo(requests()))
        return
    }
    await using off = await open("grpc-js tcp", { reflection: false })
    assert.equal(await reason(ask(off)), "UNIMPLEMENTED")
    await using closed = await open("grpc-js tcp", { authenticator: { authenticate: () => undefined } })
    assert.equal(await reason(ask(closed)), "UNAUTHENTICATED")
  })
})

describe("the edge", { timeout: 60_000 }, () => {
  const transports = {
    "Connect, JSON": (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: "1.1" }),
    "Connect, binary": (baseUrl: string) =>
      createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true }),
    "gRPC-Web": (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
  }
  for (const [name, make] of Object.entries(transports)) {
    it(`streams and fails by ${name} as it does by gRPC`, async () => {
      await using edge = await open("grpc-js tcp")
      const client = createClient(ProbeDesc, make(`http://127.0.0.1:${edge.tcp.port}`)) as unknown as {
        echo(init: object): Promise<{ text: string }>
        count(init: object, options?: object): AsyncIterable<{ number: number }>
        collect(inits: AsyncIterable<object>): Promise<{ text: string }>
      }
      assert.equal((await client.echo({ text: "a" })).text, "a")
      assert.equal(await reason(client.echo({ act: "STORE_UNAVAILABLE" })), "STORE_UNAVAILABLE")
      const numbers: number[] = []
      const failing = async () => {
        for await (const { number } of client.count({ count: 100, act: "then-fail" })) numbers.push(number)
      }
      assert.equal(await reason(failing()), "REVISION_MISMATCH")
      assert.equal(numbers.length, 100)
      async function* texts() {
        yield { text: "a" }
        yield { text: "b" }
      }
      assert.equal((await client.collect(texts())).text, "a|b")
      const stop = new AbortController()
      const stopped = async () => {
        for await (const _ of client.count({ count: 1, act: "then-wait" }, { signal: stop.signal }))
          stop.abort()
      }
      await assert.rejects(stopped(), (error) => ConnectError.from(error).code === Code.Canceled)
      await edge.log.until(() => edge.log.aborted.includes("CANCELLED"))
    })
  }

  it("answers JSON that is none, or has unknown fields, with the reason", async () => {
    await using edge = await open("json tcp")
    for (const body of ["{", "[]", '{"nope": 1}', '{"text": 5}', '{"mood": "MOOD_WILD"}', "\u0000"]) {
      const answer = await fetch(`http://127.0.0.1:${edge.tcp.port}/${PROBE}/Echo`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
      })
      assert.equal(answer.status, 400, body)
      const { code, details } = (await answer.json()) as {
        code: string
        details: { debug: { reason: string } }[]
      }
      assert.equal(code, "invalid_argument")
      assert.equal(details[0]?.debug.reason, "MALFORMED_MESSAGE")
    }
  })

  it("takes calls without side effects by GET", async () => {
    await using edge = await open("json tcp")
    const message = encodeURIComponent('{"text":"by get"}')
    const url = `http://127.0.0.1:${edge.tcp.port}/${PROBE}/Echo?encoding=json&message=${message}`
    const answer = (await (await fetch(url)).json()) as { text: string }
    assert.equal(answer.text, "by get")
  })
})
