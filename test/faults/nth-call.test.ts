/**
 * Every RPC that asks stores several times, with the first, the second, ... of these calls failing, before it is made or after: the
 * change is made once or not at all, and a repetition under the same request_id ends in one effect.
 */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { type Daemon, startDaemon } from "../../src/bootstrap/daemon.ts"
import { loadConfig } from "../../src/config/load.ts"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { FaultPlan } from "../../src/stores/decorators/faults.ts"
import { CallError, type Channel, connect } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import { PLAYS, type Play } from "./nth-plays.ts"

/** More calls to stores than any RPC makes. */
const MOST_CALLS = 40
/** `KEELPLANE_SAGA_CALLS` deepens it: a saga that failed half-way goes on some seconds later. */
const MOST_SAGA_CALLS = Number(process.env.KEELPLANE_SAGA_CALLS ?? 3)
const MOST_ATTEMPTS = 3
const PATIENCE_MS = 60_000

describe("the n-th call to a store fails", { timeout: 600_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-nth-"))
  let fired = 0
  const plan = new FaultPlan({
    seed: 1,
    onFault: () => {
      fired += 1
    },
  })
  let daemon: Daemon
  let channel: Channel

  before(async () => {
    const once = Object.fromEntries(
      ["MEMORY", "EVENTS", "CONTROL", "CACHE"].map((store) => [
        `KEELPLANE_STORES__${store}__RETRY__ATTEMPTS`,
        "1",
      ]),
    )
    const env = {
      KEELPLANE_DATA_DIR: join(folder, "data"),
      KEELPLANE_LISTEN: "127.0.0.1:0",
      KEELPLANE_OPS_LISTEN: "none",
      KEELPLANE_LOG_LEVEL: "silent",
      ...once,
    }
    daemon = await startDaemon(loadConfig({ env }), undefined, plan)
    channel = connect(`127.0.0.1:${daemon.addresses.tcp?.port}`)
    await channel.stub(MemoryService).createCollection({ collection: { id: "nth", dimension: 3 } })
  })
  after(async () => {
    channel?.close()
    await daemon?.drain()
    rmSync(folder, { recursive: true, force: true })
  })

  /** Plays with the n-th call failing; answers whether the RPC failed. The daemon's own work may be what met the fault: then again. */
  async function one(play: Play, kind: "before" | "after", n: number): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      const id = `${kind}-${n}-${attempt}`
      fired = 0
      plan.failNth(n, kind)
      const failed = await outcome(() => play.call(id))
      plan.disarm()
      await play.rest?.(id)
      const [there, of] = await play.effect(id)
      assert.ok(there === 0 || there === of, `call ${n}: ${there} of ${of} parts are there`)
      if (!failed) assert.equal(there, of, `call ${n}: it succeeded, and its effect is not there`)
      await again(() => play.call(id))
      await play.rest?.(id)
      assert.deepEqual(await play.effect(id), [of, of], `call ${n}: repeated`)
      // A saga that failed half-way takes its time until it goes on.
      if (failed || fired === 0 || play.rest !== undefined || attempt === MOST_ATTEMPTS) return failed
    }
  }

  for (const make of PLAYS) {
    // A saga whose runner lost an answer rests until its lease has elapsed: too long for here.
    const kinds = make.saga === true ? (["before"] as const) : (["before", "after"] as const)
    for (const kind of kinds) {
      it(`${make.name}, ${kind} it is made`, async (t) => {
        const play = make.on(() => channel)
        let failures = 0
        for (let n = 1; n <= (play.rest === undefined ? MOST_CALLS : MOST_SAGA_CALLS); n++) {
          const failed = await one(play, kind, n)
          failures += Number(failed)
          if (!failed && fired === 0) break
        }
        assert.ok(failures > 0, "no call failed")
        t.diagnostic(`${failures} calls failed`)
      })
    }
  }
})

/** Whether it failed; only as calls may when a store does. */
async function outcome(call: () => Promise<unknown>): Promise<boolean> {
  try {
    await call()
    return false
  } catch (error) {
    assert.ok(error instanceof CallError, String(error))
    assert.ok(["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"].includes(error.reason), error.message)
    return true
  }
}

/** Repeats a call until it succeeds, as its callers are told to. */
async function again(call: () => Promise<unknown>): Promise<void> {
  await until(
    "the repetition succeeds",
    async () => {
      try {
        await call()
        return true
      } catch (error) {
        const retryable = error instanceof CallError && [10, 14].includes(error.code)
        if (!retryable) throw error
        return false
      }
    },
    PATIENCE_MS,
  )
}
