import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { create, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf"
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js"
import { failure } from "./support/clients.ts"
import { type Edge, GRPC_WAYS, open } from "./support/harness.ts"
import { CountRequestDesc, EchoRequestDesc, EchoResponseDesc } from "./support/probe.ts"

const SERVICE = "/keelplane.probe.v1.ProbeService/"
const take = (bytes: Buffer) =>
  fromBinary(EchoResponseDesc, bytes) as unknown as { number: number; text: string }
const give = (desc: DescMessage) => (init: Record<string, unknown>) =>
  Buffer.from(toBinary(desc, create(desc, init)))

function connect(edge: Edge): Client & Disposable {
  const client = new Client(edge.target, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.max_receive_message_length": -1,
  })
  return Object.assign(client, { [Symbol.dispose]: () => client.close() })
}

function count(client: Client, init: Record<string, unknown>, metadata = new Metadata()) {
  return client.makeServerStreamRequest(`${SERVICE}Count`, give(CountRequestDesc), take, init, metadata)
}

async function drain(stream: AsyncIterable<{ number: number }>) {
  const numbers: number[] = []
  try {
    for await (const { number } of stream) numbers.push(number)
    return { numbers, error: undefined }
  } catch (error) {
    return { numbers, error: failure(error as ServiceError) }
  }
}

for (const way of GRPC_WAYS) {
  describe(`streams over ${way}`, { timeout: 60_000 }, () => {
    it("deliver everything in order, then the status with its details", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const all = await drain(count(client, { count: 500 }))
      assert.deepEqual(
        all.numbers,
        Array.from({ length: 500 }, (_, index) => index + 1),
      )
      const failed = await drain(count(client, { count: 3, act: "then-fail" }))
      assert.deepEqual(failed.numbers, [1, 2, 3])
      assert.equal(failed.error?.code, 10)
      assert.equal(failed.error?.reason, "REVISION_MISMATCH")
      assert.equal(failed.error?.metadata.actual, "2")
    })

    it("refuse a bad request before the handler begins", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const path = `${SERVICE}Count`
      const raw = client.makeServerStreamRequest(path, () => Buffer.from([0xff]), take, {}, new Metadata())
      assert.equal((await drain(raw)).error?.reason, "MALFORMED_MESSAGE")
      assert.equal(edge.log.started, 0)
    })

    it("stop producing while the caller does not read", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const stream = count(client, { count: 10_000, blobBytes: 64 * 1024 })
      const first = await new Promise((resolve) => stream.once("data", (message) => resolve(message.number)))
      stream.pause()
      assert.equal(first, 1)
      let before = -1
      while (before !== edge.log.yielded) {
        before = edge.log.yielded
        await new Promise((resolve) => setTimeout(resolve, 300))
      }
      assert.ok(before < 2000, `${before} messages of 64 KiB were produced for nobody`)
      stream.on("error", () => {})
      stream.cancel()
    })

    it("leave nothing behind each time they wait for the caller", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const warnings: string[] = []
      const note = ({ message }: Error) => warnings.push(message)
      process.on("warning", note)
      const { numbers } = await drain(count(client, { count: 60, blobBytes: 256 * 1024 }))
      // A warning is told in a tick of its own.
      await new Promise((resolve) => setImmediate(resolve))
      process.off("warning", note)
      assert.equal(numbers.length, 60)
      assert.deepEqual(warnings, [])
    })

    it("tell the handler that the caller cancelled", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const stream = count(client, { count: 1, act: "then-wait" })
      stream.on("error", () => {})
      stream.once("data", () => stream.cancel())
      await edge.log.until(() => edge.log.aborted.length === 1)
      assert.deepEqual(edge.log.aborted, ["CANCELLED"])
      const unary = client.makeUnaryRequest(
        `${SERVICE}Echo`,
        give(EchoRequestDesc),
        take,
        { act: "hang" },
        () => {},
      )
      await edge.log.until(() => edge.log.started === 2)
      unary.cancel()
      await edge.log.until(() => edge.log.aborted.length === 2)
      assert.deepEqual(edge.log.aborted, ["CANCELLED", "CANCELLED"])
      assert.equal(edge.server.stats().streams, 0)
    })

    it("end at their deadline", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const timeout = new Metadata()
      timeout.set("grpc-timeout", "1S")
      const { numbers, error } = await drain(count(client, { count: 2, act: "then-hang" }, timeout))
      assert.deepEqual(numbers, [1, 2])
      assert.equal(error?.reason, "DEADLINE_EXCEEDED")
    })

    it("of requests reach the handler one by one; a bad one ends the call", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const collect = (inits: Record<string, unknown>[]) =>
        new Promise<{ text?: string; reason?: string | undefined }>((resolve) => {
          const encode = give(EchoRequestDesc)
          const call = client.makeClientStreamRequest(`${SERVICE}Collect`, encode, take, (error, answer) =>
            resolve(error === null ? { text: answer?.text ?? "" } : { reason: failure(error).reason }),
          )
          call.on("error", () => {})
          for (const init of inits) call.write(init)
          call.end()
        })
      assert.deepEqual(await collect([]), { text: "" })
      assert.deepEqual(await collect([{ text: "a" }, { text: "b" }]), { text: "a|b" })
      assert.deepEqual(await collect([{ text: "a" }, { mood: 9 }]), { reason: "INVALID_FIELD" })
    })

    it("in both directions answer each request as it comes", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const chat = client.makeBidiStreamRequest(`${SERVICE}Chat`, give(EchoRequestDesc), take, new Metadata())
      const heard: string[] = []
      const ended = new Promise<ServiceError>((resolve) => chat.once("error", resolve))
      chat.on("data", (message: { text: string }) => {
        heard.push(message.text)
        if (heard.length < 3) chat.write({ text: `m${heard.length}` })
        else chat.write({ act: "NOT_FOUND" })
      })
      chat.write({ text: "m0" })
      assert.equal(failure(await ended).reason, "NOT_FOUND")
      assert.deepEqual(heard, ["m0", "m1", "m2"])
    })

    it("are limited per tenant", async () => {
      await using edge = await open(way, { limits: { maxStreamsPerTenant: 1 } })
      using client = connect(edge)
      const first = count(client, { count: 1, act: "then-wait" })
      first.on("error", () => {})
      await new Promise((resolve) => first.once("data", resolve))
      assert.equal((await drain(count(client, { count: 1 }))).error?.reason, "OVERLOADED")
      first.cancel()
      await edge.log.until(() => edge.log.aborted.length === 1)
      assert.deepEqual((await drain(count(client, { count: 1 }))).numbers, [1])
    })

    it("and calls of others survive 1,500 cancels at once", async () => {
      await using edge = await open(way)
      using client = connect(edge)
      const encode = give(EchoRequestDesc)
      const innocents = Array.from({ length: 50 }, () => drain(count(client, { count: 5, act: "then-wait" })))
      await edge.log.until(() => edge.log.started === 50)
      let ended = 0
      const hang = (calls: number) =>
        Array.from({ length: calls }, () =>
          client.makeUnaryRequest(`${SERVICE}Echo`, encode, take, { act: "hang" }, () => {
            ended++
          }),
        )
      const first = hang(900)
      await edge.log.until(() => edge.log.started === 950)
      for (const call of first) call.cancel()
      // These arrive before their predecessors are cleared away: some are refused for being too many, none may hurt others.
      const second = hang(600)
      await edge.log.until(() => edge.log.aborted.length === 900)
      for (const call of second) call.cancel()
      while (ended < 1500 || edge.server.stats().inFlight > 0)
        await new Promise((resolve) => setImmediate(resolve))
      assert.equal((await edge.echo({ text: "alive" })).response.text, "alive")
      edge.server.drain(5000)
      for (const { numbers, error } of await Promise.all(innocents)) {
        assert.deepEqual(numbers, [1, 2, 3, 4, 5])
        assert.equal(error?.reason, "DRAINING", "ended by the drain and by nothing before it")
      }
    })
  })
}
