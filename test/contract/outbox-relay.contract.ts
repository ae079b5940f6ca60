/** The relay over any outbox. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { pause } from "../../src/domain/kernel/pause.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { NewOutboxEntry } from "../../src/domain/outbox/model.ts"
import type { OutboxStore } from "../../src/domain/outbox/ports.ts"
import { Relay, type RelayTopic } from "../../src/domain/outbox/relay.ts"
import { createOutboxSignals, type OutboxSignals } from "../../src/domain/outbox/signals.ts"
import {
  freshTopic,
  type OutboxHarness,
  opIds,
  outboxEntries,
  outboxEntry,
  Target,
} from "./outbox-support.ts"

const POLL_MS = [5, 20] as const
const HOUR_MS = 3_600_000
const GENEROUS_MS = 60_000
const scope = systemScope()

/** Resolves when `holds` does. */
async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = performance.now() + GENEROUS_MS
  while (!(await holds())) {
    assert.ok(performance.now() < end, `still waiting: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** Registers the suite. */
export function outboxRelayContract(make: () => Promise<OutboxHarness>): void {
  describe("outbox relay", () => {
    let harness: OutboxHarness
    before(async () => {
      harness = await make()
    })

    const relay = (
      topic: RelayTopic,
      { store = harness.another(), signals = createOutboxSignals(), pollMs = POLL_MS } = {} as {
        store?: OutboxStore
        signals?: OutboxSignals
        pollMs?: readonly [number, number]
      },
    ) => new Relay({ store, signals, topics: [topic], logger: silentLogger, pollMs })
    const empty = async (topic: string) =>
      !(await harness.another().status(scope)).some((status) => status.topic === topic && status.pending > 0n)

    it("delivers each entry once and in order through two daemons while writers go on", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const target = new Target()
      const handle: RelayTopic["handle"] = (_, batch) => target.take(batch)
      const relays = [1, 2].map(() => relay({ topic, handle, batch: 7, concurrency: 2 }))
      for (const one of relays) one.start()
      for (let n = 0; n < 30; n++) {
        await harness.add(Array.from({ length: 9 }, (_, k) => outboxEntry(topic, tenant, `k${k}`, n)))
      }
      await until(() => empty(topic), "the outbox to be empty")
      await Promise.all(relays.map((one) => one.stop()))
      assert.deepEqual(target.problems, [])
      assert.equal(target.delivered.length, 270)
      assert.equal(new Set(opIds(target.delivered)).size, 270)
      const counts = relays.map((one) => one.counts.get(topic))
      assert.equal(
        counts.reduce((sum, one) => sum + (one?.done ?? 0), 0),
        270,
      )
    })

    it("is woken by who committed in this process, without a poll", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const signals = createOutboxSignals()
      const target = new Target()
      const one = relay(
        { topic, handle: (_, batch) => target.take(batch) },
        { signals, pollMs: [HOUR_MS, HOUR_MS] },
      )
      one.start()
      for (let n = 1; n <= 3; n++) {
        await harness.add([outboxEntry(topic, tenant, "k", n)])
        signals.committed(topic)
        await until(() => target.delivered.length === n, `entry ${n}`)
      }
      await one.stop()
    })

    it("loses nothing when it dies after the effect and before the mark; the repetition names the same effect", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 5))
      const target: string[] = []
      const handle: RelayTopic["handle"] = async (_, { entries }) => {
        target.push(...opIds(entries))
      }
      const store = harness.another()
      const dying = Promise.withResolvers<void>()
      const dead: OutboxStore = {
        ...bound(store),
        settle: async () => {
          dying.resolve()
          throw new DomainError("STORE_UNAVAILABLE", "gone")
        },
      }
      const first = relay({ topic, handle, batch: 3 }, { store: dead })
      first.start()
      await dying.promise
      await first.stop()
      const leftBehind = target.length
      assert.ok(leftBehind >= 3)
      harness.clock.advance(HOUR_MS)
      const second = relay({ topic, handle, batch: 3 })
      second.start()
      await until(() => empty(topic), "the second relay")
      await second.stop()
      assert.deepEqual(target.slice(0, 3), ["k:0", "k:1", "k:2"])
      assert.deepEqual(target.slice(leftBehind), ["k:0", "k:1", "k:2", "k:3", "k:4"])
    })

    it("waits for a target that is away as long as it takes, and parks nothing", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 4))
      const target = new Target()
      let tries = 0
      const one = relay({
        topic,
        handle: async (_, batch) => {
          if (++tries <= 6) throw new DomainError("STORE_UNAVAILABLE", "the target is away")
          await target.take(batch)
        },
        maxStrikes: 2,
        backoffMs: [1, 2],
      })
      one.start()
      await until(() => {
        harness.clock.advance(5)
        return empty(topic)
      }, "the target to be back")
      await one.stop()
      assert.deepEqual(target.problems, [])
      assert.deepEqual(opIds(target.delivered), ["k:0", "k:1", "k:2", "k:3"])
      assert.deepEqual((await harness.another().listParked(scope, topic, { size: 9 })).items, [])
    })

    it("brings all over to a target that is too slow for a whole batch", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      // Of one key, whose entries are always due together.
      await harness.add(outboxEntries(topic, tenant, "k", 16))
      const target = new Target()
      const slow: RelayTopic = {
        topic,
        timeoutMs: 1_000,
        backoffMs: [1, 10],
        handle: async (scope, batch) => {
          // Nothing is kept of a batch that was not finished in time.
          await pause(batch.entries.length * 120, scope.signal)
          if (scope.signal.aborted) throw scope.signal.reason
          await target.take(batch)
        },
      }
      const one = relay(slow)
      one.start()
      await until(() => {
        harness.clock.advance(5)
        return target.delivered.length === 16
      }, "all entries")
      await one.stop()
      assert.equal(new Set(opIds(target.delivered)).size, 16)
    })

    it("parks the entry at fault alone after its strikes; its neighbours and successors arrive", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const entries: NewOutboxEntry[] = []
      for (let n = 0; n < 3; n++) {
        for (let k = 0; k < 5; k++) entries.push(outboxEntry(topic, tenant, `k${k}`, n))
      }
      await harness.add(entries)
      const target = new Target()
      let tries = 0
      const one = relay({
        topic,
        handle: async (_, batch) => {
          if (batch.entries.some(({ opId }) => opId === "k2:1")) {
            if (batch.entries.length === 1) tries++
            throw new DomainError("INVALID_FIELD", "cannot be applied")
          }
          await target.take(batch)
        },
        maxStrikes: 3,
        backoffMs: [1, 2],
      })
      one.start()
      await until(() => {
        harness.clock.advance(5)
        return empty(topic)
      }, "all but one entry")
      await one.stop()
      assert.deepEqual(target.problems, [])
      assert.equal(tries, 3)
      assert.equal(target.delivered.length, 14)
      const [parked, ...others] = (await harness.another().listParked(scope, topic, { size: 9 })).items
      assert.deepEqual([parked?.opId, parked?.fault.reason, others.length], ["k2:1", "INVALID_FIELD", 0])
    })

    it("never lets what a handler throws into the outbox, unless it was made to be sent", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add([outboxEntry(topic, tenant, "k", 0)])
      const handle = () => Promise.reject(new Error("password=hunter2"))
      const one = relay({ topic, handle, maxStrikes: 1 })
      one.start()
      await until(() => empty(topic), "the entry to be parked")
      await one.stop()
      const [parked] = (await harness.another().listParked(scope, topic, { size: 9 })).items
      assert.deepEqual(parked?.fault, { reason: "INTERNAL", message: "internal error" })
    })

    it("hands its work over within the traces of the calls that added it", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const traceparent = (n: number) => `00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333${n}-01`
      const entries = outboxEntries(topic, tenant, "k", 3).map((entry, n) =>
        n === 2 ? entry : { ...entry, traceparent: traceparent(n) },
      )
      await harness.add(entries)
      const spans: unknown[] = []
      const trace = { traceparent: "the delivery" }
      const seen: unknown[] = []
      const relay = new Relay({
        store: harness.another(),
        signals: createOutboxSignals(),
        topics: [
          {
            topic,
            handle: async (own) => {
              seen.push(own.trace)
              if (seen.length === 1) throw new DomainError("STORE_UNAVAILABLE", "away")
            },
            backoffMs: [1, 1],
          },
        ],
        logger: silentLogger,
        pollMs: POLL_MS,
        tracer: {
          startDelivery: (name, traceparents) => ({
            trace,
            end: (reason) => void spans.push([name, traceparents, reason]),
          }),
        },
      })
      relay.start()
      await until(() => {
        harness.clock.advance(1_000)
        return spans.length === 2
      }, "the delivery")
      await relay.stop()
      const origins = [traceparent(0), traceparent(1), ""]
      assert.deepEqual(spans, [
        [topic, origins, "STORE_UNAVAILABLE"],
        [topic, origins, undefined],
      ])
      assert.deepEqual(seen, [trace, trace])
    })

    it("stops at once, aborting handlers, and what they had not done is there for the next", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 2))
      const begun = Promise.withResolvers<void>()
      const one = relay({
        topic,
        handle: (handlerScope) => {
          begun.resolve()
          return new Promise((_, reject) => {
            handlerScope.signal.addEventListener("abort", () => reject(handlerScope.signal.reason))
          })
        },
      })
      one.start()
      await begun.promise
      await one.stop()
      const claim = { topic, max: 9, maxBytes: 1e6, leaseMs: 1 }
      const left = await harness.another().claim(scope, claim)
      assert.deepEqual(opIds(left.entries), ["k:0", "k:1"])
      assert.equal(left.entries[0]?.failures, 0)
    })
  })
}

/** The methods of a class as a record, so that one of them can be another. */
function bound(store: OutboxStore): OutboxStore {
  return {
    claim: (...args) => store.claim(...args),
    settle: (...args) => store.settle(...args),
    status: (...args) => store.status(...args),
    listParked: (...args) => store.listParked(...args),
    replay: (...args) => store.replay(...args),
  }
}
