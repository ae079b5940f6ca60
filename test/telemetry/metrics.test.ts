import assert from "node:assert/strict"
import { test } from "node:test"
import { MetricRegistry } from "../../src/telemetry/metrics.ts"
import { RpcObserver } from "../../src/telemetry/rpc-observer.ts"
import { parseTraceparent } from "../../src/telemetry/trace-context.ts"

test("counters, gauges and histograms appear in the text format", () => {
  const registry = new MetricRegistry()
  registry.counter("calls_total", "Calls.", ["method"]).with('a"b\\c\nd').inc(2)
  registry.gauge("up", "Up.").with().set(1)
  const histogram = registry.histogram("seconds", "Seconds.", ["store"]).with("x")
  for (const value of [0.00001, 0.0002, 0.0002, 100]) histogram.observe(value)
  const { body } = registry.expose()
  assert.match(body, /# TYPE calls_total counter\ncalls_total\{method="a\\"b\\\\c\\nd"\} 2\n/)
  assert.match(body, /^up 1$/m)
  assert.match(body, /^seconds_bucket\{store="x",le="0.00005"\} 1$/m)
  assert.match(body, /^seconds_bucket\{store="x",le="0.00025"\} 3$/m)
  assert.match(body, /^seconds_bucket\{store="x",le="30"\} 3$/m)
  assert.match(body, /^seconds_bucket\{store="x",le="\+Inf"\} 4$/m)
  assert.match(body, /^seconds_count\{store="x"\} 4$/m)
})

test("a label that takes any value cannot make any number of series", () => {
  const registry = new MetricRegistry()
  const family = registry.counter("wild_total", "Wild.", ["value"])
  for (let i = 0; i < 10_000; i++) family.with(String(i)).inc()
  const lines = registry
    .expose()
    .body.split("\n")
    .filter((line) => line.startsWith("wild_total{"))
  assert.ok(lines.length <= 2_001)
  assert.ok(lines.includes('wild_total{value="other"} 8000'))
})

test("each call is counted once by method and status", () => {
  const registry = new MetricRegistry()
  const observer = new RpcObserver(registry, undefined)
  for (const code of [0, 0, 5]) observer.onStart("a.B/C", () => undefined)?.end(code, undefined)
  const { body } = registry.expose()
  assert.match(body, /keelplane_rpc_server_calls_total\{rpc_method="a.B\/C",rpc_status_code="OK"\} 2/)
  assert.match(body, /rpc_status_code="NOT_FOUND"\} 1/)
  assert.match(body, /rpc_server_call_duration_seconds_count\{rpc_method="a.B\/C"\} 3/)
})

test("only well-formed trace context is taken over", () => {
  const trace = "0af7651916cd43dd8448eb211c80319c"
  const good = parseTraceparent(`00-${trace}-b7ad6b7169203331-01`, "a=b")
  assert.equal(good?.traceId, trace)
  assert.equal(good?.traceFlags, 1)
  assert.equal(good?.traceState?.get("a"), "b")
  const bad = [
    "",
    `00-${trace}-b7ad6b7169203331`,
    `00-${"0".repeat(32)}-b7ad6b7169203331-01`,
    `00-${trace}-${"0".repeat(16)}-01`,
    `ff-${trace}-b7ad6b7169203331-01`,
    `00-${trace}-b7ad6b7169203331-01-more`,
    `00-${trace.toUpperCase()}-b7ad6b7169203331-01`,
  ]
  for (const header of bad) assert.equal(parseTraceparent(header), undefined, header)
  assert.notEqual(parseTraceparent(`01-${trace}-b7ad6b7169203331-01-future`), undefined)
})
