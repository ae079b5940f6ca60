import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { MetricRegistry } from "../../src/telemetry/metrics.ts"
import { RpcObserver } from "../../src/telemetry/rpc-observer.ts"
import { StoreObserver } from "../../src/telemetry/store-observer.ts"
import { startTracing } from "../../src/telemetry/tracing.ts"

const TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
const SPAN_ID = "b7ad6b7169203331"

/** Takes what an OTLP exporter sends. */
async function collector() {
  const bodies: Buffer[] = []
  const paths: string[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    paths.push(request.url ?? "")
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      bodies.push(Buffer.concat(chunks))
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { endpoint, paths, all: () => Buffer.concat(bodies), close: () => server.close() }
}

test("a call and its store call are exported under the caller's trace", async () => {
  const { endpoint, paths, all, close } = await collector()
  const tracing = await startTracing({ endpoint: `${endpoint}/`, sampleRatio: 0, version: "0.0.0" })
  const registry = new MetricRegistry()
  const call = new RpcObserver(registry, tracing).onStart("keelplane.v1.EventService/ReadStream", (name) =>
    name === "traceparent" ? `00-${TRACE_ID}-${SPAN_ID}-01` : undefined,
  )
  assert.equal(call.traceId, TRACE_ID)
  const operation = new StoreObserver(registry, tracing).operation("events", "streams.readStream")
  const span = operation.start(call.trace)
  assert.ok(span !== undefined)
  operation.end(1, "STORE_UNAVAILABLE", span)
  call.end(14, "STORE_UNAVAILABLE")
  // The caller's sampling decision holds, so a ratio of 0 does not drop this one; without a caller it does.
  new RpcObserver(new MetricRegistry(), tracing)
    .onStart("keelplane.v1.Unsampled/Call", () => undefined)
    .end(0, undefined)
  await tracing.shutdown()
  close()
  assert.deepEqual(paths, ["/v1/traces"])
  const sent = all()
  assert.ok(sent.includes("keelplane.v1.EventService/ReadStream"))
  assert.ok(sent.includes("events streams.readStream"))
  assert.ok(sent.includes("STORE_UNAVAILABLE"))
  assert.ok(!sent.includes("Unsampled"))
  const parents = sent.toString("hex").split(SPAN_ID).length - 1
  assert.equal(parents, 1, "the server span is a child of the caller's span")
  assert.equal(sent.toString("hex").split(TRACE_ID).length - 1, 2)
})

test("without an endpoint nothing of the SDK is loaded", async () => {
  const telemetry = fileURLToPath(new URL("../../src/telemetry/index.ts", import.meta.url))
  const script = `
    import { registerHooks } from "node:module"
    const loaded = []
    registerHooks({ resolve(name, context, next) { loaded.push(name); return next(name, context) } })
    const { startTelemetry } = await import(${JSON.stringify(telemetry)})
    const started = await startTelemetry({ level: "info", format: "json", otlpEndpoint: undefined, sampleRatio: 1, version: "0" })
    await started.stop()
    process.stdout.write(loaded.filter((name) => name.includes("opentelemetry")).join(","))`
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script])
  assert.equal(stdout, "")
})

test("a delivery of the outbox is under the call that owed it, and its store calls are under the delivery", async () => {
  const { endpoint, all, close } = await collector()
  const tracing = await startTracing({ endpoint, sampleRatio: 0, version: "0.0.0" })
  const call = tracing.startCall("keelplane.v1.ControlService/PutConfig", (name) =>
    name === "traceparent" ? `00-${TRACE_ID}-${SPAN_ID}-01` : undefined,
  )
  const { traceparent } = call.trace
  assert.match(traceparent, new RegExp(`^00-${TRACE_ID}-[0-9a-f]{16}-01$`))
  call.end(0, undefined)
  const other = traceparent.replace(TRACE_ID, TRACE_ID.replace("0a", "1a"))
  const unsampled = `00-${TRACE_ID.replace("0a", "2a")}-${SPAN_ID}-00`
  const delivery = tracing.startDelivery("audit", ["", unsampled, traceparent, other, traceparent, "x"])
  assert.ok(delivery?.trace.traceparent.startsWith(`00-${TRACE_ID}-`))
  const record = new StoreObserver(new MetricRegistry(), tracing).operation("events", "audit.record")
  record.end(1, undefined, record.start(delivery?.trace))
  delivery?.end("STORE_UNAVAILABLE")
  assert.equal(tracing.startDelivery("audit", ["", "x"]), undefined)
  await tracing.shutdown()
  close()
  const sent = all()
  assert.ok(sent.includes("outbox audit") && sent.includes("events audit.record"))
  const times = (id: string | undefined) => sent.toString("hex").split(id ?? "none").length - 1
  // Its own and the delivery's parent.
  assert.equal(
    times(traceparent.split("-")[2]),
    3,
    "the call, the delivery under it, and the link to the other with its id",
  )
  assert.equal(
    times(delivery?.trace.traceparent.split("-")[2]),
    2,
    "the delivery and the store call under it",
  )
  assert.equal(times(TRACE_ID.replace("0a", "1a")), 1, "a link")
  assert.equal(times(TRACE_ID.replace("0a", "2a")), 1, "a link")
})
