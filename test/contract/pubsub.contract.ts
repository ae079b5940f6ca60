/** What every engine for publish and subscribe must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import type { PubSub, Subscription, TopicFrame } from "../../src/domain/cache/ports.ts"
import type { CallScope, TenantId } from "../../src/domain/kernel/scope.ts"
import { fails, repeatable, scopeOf, text } from "./cache-support.ts"

/** An engine under test. */
export interface PubSubHarness {
  readonly pubsub: PubSub
  freshTenant(): TenantId
  /** How many messages a subscription buffers at the most. */
  readonly bufferedMessages: number
}

/** Longer than any test: no heartbeat comes in between. */
const SILENT_MS = 300_000

/** Registers the suite. */
export function pubSubContract(make: () => Promise<PubSubHarness>): void {
  describe("pub/sub", () => {
    const state: { harness?: PubSubHarness } = {}
    before(async () => {
      state.harness = await make()
    })
    const harness = (): PubSubHarness => state.harness ?? assert.fail("not prepared")
    const pubsub = () => harness().pubsub
    const fresh = () => scopeOf(harness().freshTenant())
    const open = (scope: CallScope, what: Partial<Subscription>) => listen(pubsub(), scope, what)

    it("begins with a heartbeat, then hands on messages in order, numbered without a gap", async () => {
      const scope = fresh()
      const frames = await open(scope, { topics: ["news", "other"] })
      const sent = []
      for (const word of ["a", "b", "c"]) sent.push(await pubsub().publish(scope, "news", text(word)))
      assert.ok(sent.every(({ subscribers }) => subscribers === 1))
      const got = [await frames.message(), await frames.message(), await frames.message()]
      assert.deepEqual(
        got.map(({ payload }) => payload.content.value),
        ["a", "b", "c"],
      )
      assert.deepEqual(
        got.map(({ sequence }) => sequence),
        sent.map(({ sequence }) => sequence),
      )
      const first = got[0]?.sequence ?? assert.fail("no message")
      assert.deepEqual(
        got.map(({ sequence }) => sequence - first),
        [0n, 1n, 2n],
      )
      await frames.end()
      assert.equal((await pubsub().publish(scope, "news", text("d"))).subscribers, 0)
    })

    it("keeps topics and tenants apart, to the byte", async () => {
      const [ada, bob] = [fresh(), fresh()]
      const frames = await open(ada, { topics: ["Topic"] })
      assert.equal((await pubsub().publish(ada, "topic", text("case"))).subscribers, 0)
      assert.equal((await pubsub().publish(bob, "Topic", text("tenant"))).subscribers, 0)
      await pubsub().publish(ada, "Topic", text("mine"))
      assert.equal((await frames.message()).payload.content.value, "mine")
      await frames.end()
    })

    it("subscribes by pattern, and hands a message over once however many ways it fits", async () => {
      const scope = fresh()
      const frames = await open(scope, { topics: ["job.1"], patterns: ["job.*", "*.1"] })
      assert.equal((await pubsub().publish(scope, "job.1", text("once"))).subscribers, 1)
      await pubsub().publish(scope, "task.2", text("not this"))
      await pubsub().publish(scope, "job.2", text("next"))
      assert.deepEqual([(await frames.message()).topic, (await frames.message()).topic], ["job.1", "job.2"])
      await frames.end()
      await fails("INVALID_FIELD", () => open(scope, { patterns: ["["] }))
    })

    it("says how many messages a slow consumer lost, between those before and those after", async () => {
      const scope = fresh()
      const frames = await open(scope, { topics: ["t"] })
      const { bufferedMessages } = harness()
      for (let index = 0; index < bufferedMessages + 5; index++)
        await pubsub().publish(scope, "t", text(`${index}`))
      for (let index = 0; index < bufferedMessages; index++) {
        assert.equal((await frames.message()).payload.content.value, `${index}`)
      }
      assert.deepEqual(await frames.next(), { kind: "discontinuity", dropped: 5 })
      await pubsub().publish(scope, "t", text("after"))
      assert.equal((await frames.message()).payload.content.value, "after")
      await frames.end()
    })

    it("sends heartbeats while nothing happens", async () => {
      const frames = await open(fresh(), { topics: ["t"], heartbeatIntervalMs: 5 })
      assert.equal((await frames.next())?.kind, "heartbeat")
      assert.equal((await frames.next())?.kind, "heartbeat")
      await frames.end()
    })

    it("ends when the call is aborted, also while it waits", async () => {
      const controller = new AbortController()
      const scope = { ...fresh(), signal: controller.signal }
      const frames = await open(scope, { topics: ["t"] })
      const next = frames.next()
      controller.abort()
      assert.equal(await next, undefined)
      assert.equal((await pubsub().publish(scope, "t", text("nobody"))).subscribers, 0)
    })

    it("publishes once per request_id", async () => {
      const scope = fresh()
      const frames = await open(scope, { topics: ["t"] })
      const publish = (word: string, body?: string) =>
        pubsub().publish(repeatable(scope, "id", body), "t", text(word))
      const first = await publish("once")
      assert.deepEqual(await publish("once"), first)
      await fails("REQUEST_ID_REUSED", () => publish("other", "other"))
      await pubsub().publish(scope, "t", text("next"))
      assert.deepEqual(
        [(await frames.message()).payload.content.value, (await frames.message()).payload.content.value],
        ["once", "next"],
      )
      await frames.end()
    })

    it("ends subscriptions on close and refuses calls after it", async () => {
      const { pubsub: closing } = await make()
      const scope = fresh()
      const frames = await listen(closing, scope, { topics: ["t"] })
      const next = frames.next()
      await closing.close()
      assert.equal(await next, undefined)
      await fails("STORE_UNAVAILABLE", () => closing.publish(scope, "t", text("late")))
      await fails("STORE_UNAVAILABLE", () => listen(closing, scope, { topics: ["t"] }))
    })
  })
}

/** Subscribes and takes the first heartbeat. */
async function listen(pubsub: PubSub, scope: CallScope, what: Partial<Subscription>) {
  const subscription = { topics: [], patterns: [], heartbeatIntervalMs: SILENT_MS, ...what }
  const frames = pubsub.subscribe(scope, subscription)[Symbol.asyncIterator]()
  const next = async (): Promise<TopicFrame | undefined> => {
    const { done, value } = await frames.next()
    return done === true ? undefined : value
  }
  assert.equal((await next())?.kind, "heartbeat")
  return {
    next,
    async message() {
      const frame = await next()
      assert.ok(frame?.kind === "message", `not a message: ${frame?.kind}`)
      return frame.message
    },
    end: async () => void (await frames.return?.()),
  }
}
