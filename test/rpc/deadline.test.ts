import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { Metadata } from "@grpc/grpc-js"
import { failure, grpcClient, type Outcome } from "./support/clients.ts"
import { GRPC_WAYS, open, WAYS } from "./support/harness.ts"

for (const way of WAYS) {
  describe(`deadlines over ${way}`, { timeout: 60_000 }, () => {
    it("are answered just before they pass, even where the handler hangs", async () => {
      await using edge = await open(way)
      // Near ones and far ones are watched in different ways.
      for (const timeoutMs of [500, 1700]) {
        const outcome = await edge.echo({ act: "hang" }, { timeoutMs })
        assert.equal(outcome.code, 4)
        assert.equal(outcome.reason, "DEADLINE_EXCEEDED")
        assert.deepEqual(edge.log.aborted.splice(0), ["DEADLINE_EXCEEDED"])
      }
    })

    it("leave open what became of a change whose handler hangs", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ act: "hang" }, { timeoutMs: 1000, method: "Rule" })
      assert.equal(outcome.reason, "OUTCOME_UNKNOWN")
      assert.equal(outcome.pushback, "-1")
    })

    it("let a handler that heeds the signal say what became of its work", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ act: "heed" }, { timeoutMs: 1000 })
      assert.equal(outcome.reason, "OUTCOME_UNKNOWN")
      assert.equal(outcome.pushback, "-1")
    })

    it("make a driver's AbortError mean the deadline", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({ act: "abort-error" }, { timeoutMs: 1000 })
      assert.equal(outcome.reason, "DEADLINE_EXCEEDED")
      assert.deepEqual(edge.logged, [])
    })

    it("are given to unary calls without one, and not to long polls", async () => {
      await using edge = await open(way, { limits: { defaultDeadlineMs: 5000 } })
      const given = Number((await edge.echo({})).response.deadlineMs)
      assert.ok(given > 0 && given <= 5000, String(given))
      assert.equal((await edge.echo({}, { method: "Poll" })).response.deadlineMs, -1n)
    })

    it("are shortened where they are absurd", async () => {
      await using edge = await open(way, { limits: { maxDeadlineMs: 60_000 } })
      const monthMs = 30 * 24 * 3_600_000
      for (const timeoutMs of [120_000, monthMs]) {
        const left = Number((await edge.echo({ act: "later" }, { timeoutMs })).response.deadlineMs)
        assert.ok(left > 0 && left <= 60_000, String(left))
      }
      const poll = await edge.echo({ act: "later" }, { timeoutMs: monthMs, method: "Poll" })
      assert.ok(Number(poll.response.deadlineMs) > 20 * 24 * 3_600_000)
    })
  })
}

for (const way of GRPC_WAYS) {
  describe(`grpc-timeout over ${way}`, { timeout: 60_000 }, () => {
    it("is refused where it is not in the format, and survives the largest value there is", async () => {
      await using edge = await open(way)
      const raw = grpcClient(edge.target).raw
      const send = (timeout: string) =>
        new Promise<Outcome | undefined>((resolve) => {
          const metadata = new Metadata()
          metadata.set("grpc-timeout", timeout)
          const path = "/keelplane.probe.v1.ProbeService/Echo"
          const empty = Buffer.alloc(0)
          raw.makeUnaryRequest(
            path,
            () => empty,
            String,
            {},
            metadata,
            (error) => resolve(error === null ? undefined : failure(error)),
          )
        })
      const refused = await send("soon")
      assert.equal(refused?.code, 3)
      assert.equal(refused?.reason, "INVALID_FIELD")
      assert.equal(await send("99999999H"), undefined)
      assert.equal((await send("0m"))?.code, 4)
      raw.close()
    })
  })
}
