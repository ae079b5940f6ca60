/** A daemon whose n-th call to a store can be made to fail, and what must hold of an RPC whatever n is. */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type Daemon, startDaemon } from "../../src/bootstrap/daemon.ts"
import { loadConfig } from "../../src/config/load.ts"
import { FaultPlan } from "../../src/stores/decorators/faults.ts"
import { CallError, type Channel, connect } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import type { Maker, Play } from "./nth-plays.ts"

/** More calls to stores than any RPC makes. */
const MOST_CALLS = 200
const MOST_ATTEMPTS = 5
const PATIENCE_MS = 60_000
/** What the daemon does by itself, whatever it is asked. */
const OWN_WORK =
  /^\w+\/(sagas\/(claim|sweep)|budgets\/sweep|outbox\w*\/\w+|jobs\/sweep|job_exits\/(take|remove)|job_history\/append|sessions\/sweep)$/

/** See the file's comment. */
export class FaultyDaemon {
  readonly #folder: string
  readonly #plan: FaultPlan
  readonly #daemon: Daemon
  /** Operations that met a fault since the last {@link #arm}. */
  readonly #met: string[]
  readonly channel: Channel

  private constructor(folder: string, plan: FaultPlan, met: string[], daemon: Daemon) {
    this.#folder = folder
    this.#plan = plan
    this.#met = met
    this.#daemon = daemon
    this.channel = connect(`127.0.0.1:${daemon.addresses.tcp?.port}`)
  }

  /** On the embedded engines and what `env` adds; nothing is tried again inside of it. */
  static async start(env: Readonly<Record<string, string>> = {}): Promise<FaultyDaemon> {
    const folder = mkdtempSync(join(tmpdir(), "keelplane-nth-"))
    const met: string[] = []
    const plan = new FaultPlan({ seed: 1, onFault: ({ operation }) => met.push(operation) })
    const once = ["MEMORY", "VECTORS", "EVENTS", "CONTROL", "CACHE"].map(
      (store) => [`KEELPLANE_STORES__${store}__RETRY__ATTEMPTS`, "1"] as const,
    )
    const all = {
      KEELPLANE_DATA_DIR: join(folder, "data"),
      KEELPLANE_LISTEN: "127.0.0.1:0",
      KEELPLANE_OPS_LISTEN: "none",
      KEELPLANE_LOG_LEVEL: "silent",
      // A saga whose runner lost an answer rests until its lease has elapsed.
      KEELPLANE_SAGAS__LEASE_MS: "1000",
      KEELPLANE_SAGAS__INTERVAL_MS: "100",
      ...Object.fromEntries(once),
      ...env,
    }
    return new FaultyDaemon(folder, plan, met, await startDaemon(loadConfig({ env: all }), undefined, plan))
  }

  /** Ends it and removes its data. */
  async stop(): Promise<void> {
    this.channel.close()
    await this.#daemon.drain()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** Plays with the first, the second, ... call failing, until there are no more calls; answers how many calls there are. */
  async playAll(make: Maker, kind: "before" | "after"): Promise<number> {
    const play = make.on(() => this.channel)
    let failures = 0
    for (let n = 1; n <= (play.most ?? MOST_CALLS); n++) {
      const { failed, met } = await this.#one(play, kind, n)
      failures += Number(failed)
      if (met) continue
      assert.ok(failures > 0, "no call failed")
      return n - 1
    }
    if (play.most !== undefined) return play.most
    throw new Error(`${make.name} makes more than ${MOST_CALLS} calls`)
  }

  /** Plays with the n-th call failing. The daemon's own work may be what met the fault: then again. */
  async #one(play: Play, kind: "before" | "after", n: number): Promise<{ failed: boolean; met: boolean }> {
    for (let attempt = 1; ; attempt++) {
      const id = `${kind}-${n}-${attempt}`
      await play.prepare?.(id)
      this.#met.length = 0
      this.#plan.failNth(n, kind)
      const failed = await outcome(() => play.call(id))
      if (play.armedAtRest === true) await play.rest?.(id)
      this.#plan.disarm()
      const met = [...this.#met]
      await play.rest?.(id)
      const where = `call ${n} (${met.join()})`
      const [there, of] = await play.effect(id)
      if (play.inParts !== true)
        assert.ok(there === 0 || there === of, `${where}: ${there} of ${of} parts are there`)
      if (!failed) assert.equal(there, of, `${where}: it succeeded, and its effect is not there`)
      await again(() => play.call(id))
      await play.rest?.(id)
      assert.deepEqual(await play.effect(id), [of, of], `${where}: repeated`)
      if (met.length === 0) return { failed, met: false }
      if (failed || !met.every((operation) => OWN_WORK.test(operation)) || attempt === MOST_ATTEMPTS)
        return { failed, met: true }
    }
  }
}

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
