/** What every unary call gets, whatever it came in by. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { REASONS } from "../../src/domain/kernel/errors.ts"
import { codeOf, isRetryable } from "../../src/rpc/status.ts"
import { open, WAYS } from "./support/harness.ts"

const GRPC_MESSAGE_TOO_LARGE = 8

function nested(levels: number): object {
  let value: object = {}
  for (let level = 1; level < levels; level++) value = { a: value }
  return value
}

for (const way of WAYS) {
  describe(`unary over ${way}`, { timeout: 60_000 }, () => {
    it("answers synchronous and asynchronous handlers, with the trailers they set", async () => {
      await using edge = await open(way)
      for (const act of ["", "later"]) {
        const outcome = await edge.echo({ text: "h\u00e9llo", act })
        assert.equal(outcome.code, 0, outcome.message)
        assert.equal(outcome.response.text, "h\u00e9llo")
        assert.equal(outcome.response.tenant, "default")
        assert.equal(outcome.response.principal, "local")
        assert.equal(outcome.trailer, "seen")
      }
    })

    it("gives every reason its code, exactly one ErrorInfo, and RetryInfo where a retry helps", async () => {
      await using edge = await open(way)
      for (const reason of REASONS) {
        const outcome = await edge.echo({ act: reason })
        assert.equal(outcome.code, codeOf(reason), reason)
        assert.equal(outcome.reason, reason)
        assert.equal(outcome.infos, 1, reason)
        assert.equal(outcome.metadata.store, "probe")
        const retries = isRetryable(reason) && (outcome.code === 14 || outcome.code === 8)
        assert.equal(outcome.retryMs !== undefined, retries, reason)
        const never = reason === "OUTCOME_UNKNOWN" || outcome.code === 14 || outcome.code === 8
        const pushback = retries ? String(outcome.retryMs) : never ? "-1" : undefined
        assert.equal(outcome.pushback, pushback, reason)
        assert.deepEqual(outcome.fields, reason === "INVALID_FIELD" ? ["act"] : [])
      }
    })

    it("lets client libraries repeat an unknown outcome only under a request_id", async () => {
      await using edge = await open(way)
      const named = await edge.echo({ act: "OUTCOME_UNKNOWN", requestId: "r1" })
      assert.equal(named.reason, "OUTCOME_UNKNOWN")
      assert.equal(named.pushback, "100")
      assert.equal(named.retryMs, undefined)
      assert.equal((await edge.echo({ act: "OUTCOME_UNKNOWN" })).pushback, "-1")
    })

    it("hides what it does not know, and logs it", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ act: "boom" })
      assert.equal(outcome.code, 13)
      assert.equal(outcome.message, "internal error")
      assert.equal(outcome.reason, "INTERNAL")
      assert.match(String(edge.logged.at(-1)?.fields.err), /secret driver text boom/)
    })

    it("sends messages that are not well-formed or have line breaks", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ act: "surrogate" })
      assert.equal(outcome.code, 5)
      assert.equal(outcome.reason, "NOT_FOUND")
    })

    it("names every field that breaks a rule as the proto spells it", async () => {
      await using edge = await open(way)
      const request = { requestId: "r".repeat(129), mood: 77, items: [{ size: 1 }, { size: -1 }] }
      const outcome = await edge.echo(request as never)
      assert.equal(outcome.code, 3)
      assert.equal(outcome.reason, "INVALID_FIELD")
      assert.deepEqual([...outcome.fields].sort(), ["items[1].size", "mood", "request_id"])
    })

    it("keeps the trailers of a request with thousands of faults small", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ items: Array.from({ length: 5000 }, () => ({ size: -1 })) } as never)
      assert.equal(outcome.reason, "INVALID_FIELD")
      assert.ok(outcome.fields.length >= 10 && outcome.fields.length < 500, `${outcome.fields.length}`)
    })

    it("answers malformed bytes with INVALID_ARGUMENT", async () => {
      await using edge = await open(way)
      const broken = [
        Buffer.from([0x0a, 0xff]),
        Buffer.from([0xff, 0xff, 0xff]),
        Buffer.from([0x0a, 0x02, 0xc3, 0x28]),
      ]
      for (const request of broken) {
        const outcome = await edge.echo({}, { request })
        assert.equal(outcome.code, 3, outcome.message)
        assert.equal(outcome.reason, "MALFORMED_MESSAGE")
      }
      assert.equal((await edge.echo({})).code, 0)
    })

    it("takes Structs of 60 levels and refuses depth bombs of any kind", async () => {
      await using edge = await open(way)
      assert.equal((await edge.echo({ data: nested(60) })).code, 0)
      const deep = await edge.echo({ data: nested(80) })
      assert.equal(deep.code, 3)
      assert.equal(deep.reason, "LIMIT_EXCEEDED")
      let bomb = Buffer.alloc(0)
      for (let level = 0; level < 5000; level++)
        bomb = Buffer.concat([tag(level === 4999 ? 5 : 1, bomb.length), bomb])
      const outcome = await edge.echo({}, { request: bomb })
      assert.equal(outcome.code, 3)
      assert.equal(outcome.reason, "LIMIT_EXCEEDED")
    })

    it("refuses a message over the limit and takes one just under it", async () => {
      await using edge = await open(way, { limits: { maxMessageBytes: 100_000 } })
      const fits = await edge.echo({ blob: new Uint8Array(way.startsWith("json") ? 70_000 : 99_000) })
      assert.equal(fits.code, 0)
      const outcome = await edge.echo({ blob: new Uint8Array(100_001) })
      assert.ok([3, GRPC_MESSAGE_TOO_LARGE].includes(outcome.code), outcome.message)
      assert.equal((await edge.echo({})).code, 0)
    })

    it("answers UNIMPLEMENTED for what it does not have", async () => {
      await using edge = await open(way)
      for (const path of ["/keelplane.probe.v1.ProbeService/Nope", "/nobody.Knows/It"]) {
        const outcome = await edge.echo({}, { path })
        assert.equal(outcome.code, 12)
        assert.equal(outcome.reason, "UNIMPLEMENTED")
        assert.equal(outcome.metadata.method, path.slice(1))
      }
    })

    it("hashes a repeated request alike, whatever the order of its maps, and without its request_id", async () => {
      await using edge = await open(way)
      const hash = async (request: object) => (await edge.echo(request as never)).response.idempotency
      const first = await hash({
        requestId: "a",
        data: { x: 1, y: { p: 1, q: [2] } },
        labels: { k: "1", l: "2" },
      })
      const again = await hash({
        requestId: "b",
        labels: { l: "2", k: "1" },
        data: { y: { q: [2], p: 1 }, x: 1 },
      })
      assert.match(String(first), /^[0-9a-f]{64}$/)
      assert.equal(again, first)
      assert.notEqual(await hash({ requestId: "a", labels: { k: "1", l: "3" } }), first)
      assert.equal(await hash({ labels: { k: "1", l: "2" } }), "")
    })

    it("sheds calls over the limit in flight, and takes calls again afterwards", async () => {
      await using edge = await open(way, { limits: { maxInFlightPerTenant: 1 } })
      const hanging = edge.echo({ act: "hang" }, { timeoutMs: 2000 })
      await edge.log.until(() => edge.log.started === 1)
      const outcome = await edge.echo({})
      assert.equal(outcome.code, 8)
      assert.equal(outcome.reason, "OVERLOADED")
      assert.ok(outcome.retryMs !== undefined)
      assert.equal((await edge.echo({}, { headers: { "x-keelplane-tenant": "other" } })).code, 0)
      assert.equal((await hanging).code, 4)
      assert.equal((await edge.echo({})).code, 0)
      assert.equal(edge.server.stats().inFlight, 0)
    })
  })
}

/** A length-delimited field header. */
function tag(field: number, length: number): Buffer {
  const bytes = [field * 8 + 2]
  let rest = length
  while (rest > 127) {
    bytes.push((rest & 127) | 128)
    rest >>= 7
  }
  return Buffer.from([...bytes, rest])
}
