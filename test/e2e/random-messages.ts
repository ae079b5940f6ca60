/** Random messages at every RPC: whatever comes in, no INTERNAL, no UNKNOWN, a known reason, and the daemon lives. */
import assert from "node:assert/strict"
import test from "node:test"
import { toBinary } from "@bufbuild/protobuf"
import fc from "fast-check"
import { REASONS } from "../../src/domain/kernel/errors.ts"
import type { Daemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { messages } from "../support/random-message.ts"
import { METHODS } from "./registry.ts"

const SEED = process.env.KEELPLANE_FUZZ_SEED

/** Ends of a call that a random message may have: any but INTERNAL, UNKNOWN, DATA_LOSS and UNAVAILABLE. */
const ALLOWED = new Set([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12])

/** Registers the suite. A failure prints its seed, `KEELPLANE_FUZZ_SEED` repeats it. @param runs Messages per RPC. */
export function randomMessagesSuite(daemon: () => Daemon, channel: () => Channel, runs: number): void {
  for (const [rpc, method] of METHODS) {
    if (rpc === "AdminService/Drain") continue
    if (method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming") continue
    test(rpc, async () => {
      await fc.assert(
        fc.asyncProperty(messages(method.input), async (message) => {
          try {
            toBinary(method.input, message as never)
          } catch {
            // Not a message that any client could send, e.g. a lone surrogate or a number outside its field's range.
            fc.pre(false)
          }
          try {
            if (method.methodKind === "unary") await channel().unary(method, message, { timeoutMs: 2000 })
            else for await (const _ of channel().stream(method, message, { timeoutMs: 500 })) break
          } catch (error) {
            assert.ok(error instanceof CallError, String(error))
            assert.ok(ALLOWED.has(error.code), error.message)
            if (error.code === 12) assert.equal(error.reason, "UNSUPPORTED_BY_ENGINE", error.message)
            // The client's own deadline may pass first; everything that the daemon answers has a reason.
            if (error.code !== 4)
              assert.ok((REASONS as readonly string[]).includes(error.reason), error.message)
          }
        }),
        { numRuns: runs, ...(SEED === undefined ? {} : { seed: Number(SEED) }), endOnFailure: true },
      )
      assert.equal(daemon().process.exitCode, null, daemon().output().slice(-2000))
    })
  }

  test("after all of it the daemon is ready and has logged no unexpected error", async () => {
    const ready = await fetch(`http://${daemon().opsAddress}/readyz`)
    assert.equal(ready.status, 200)
    assert.ok(!/"level":"?(50|error|60|fatal)/.test(daemon().output()), daemon().output().slice(0, 4000))
  })
}
