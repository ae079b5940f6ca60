/** What every outbox must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import type { OutboxBatch, OutboxStore } from "../../src/domain/outbox/ports.ts"
import { freshTopic, idsOf, type OutboxHarness, opIds, outboxEntries, outboxEntry } from "./outbox-support.ts"

const LEASE_MS = 30_000
const FAULT = { reason: "INTERNAL", message: "internal error" }
const scope = systemScope()

/** Registers the suite. */
export function outboxContract(make: () => Promise<OutboxHarness>): void {
  describe("outbox", () => {
    let harness: OutboxHarness
    let store: OutboxStore
    before(async () => {
      harness = await make()
      store = harness.another()
    })
    const claim = (topic: string, max = 100, maxBytes = 1_000_000): Promise<OutboxBatch> =>
      store.claim(scope, { topic, max, maxBytes, leaseMs: LEASE_MS })
    const parked = async (topic: string, size = 100) => (await store.listParked(scope, topic, { size })).items

    it("hands out what was committed, unchanged, and once while the lease lasts", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const payload = Uint8Array.from({ length: 256 }, (_, i) => i)
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      await harness.add([{ topic, tenant, key: "ü/\u{1f600}", opId: "op", payload, traceparent }])
      const { entries, fence } = await claim(topic)
      const [entry] = entries
      assert.ok(entry !== undefined && entries.length === 1)
      assert.deepEqual(
        [entry.topic, entry.tenant, entry.key, entry.opId, entry.traceparent],
        [topic, tenant, "ü/\u{1f600}", "op", traceparent],
      )
      assert.deepEqual(Uint8Array.from(entry.payload), payload)
      assert.deepEqual([entry.failures, entry.strikes], [0, 0])
      assert.deepEqual((await claim(topic)).entries, [])
      assert.equal(await store.settle(scope, { topic, fence }, { done: [entry.id] }), 1)
      harness.clock.advance(LEASE_MS + 1)
      assert.deepEqual((await claim(topic)).entries, [])
    })

    it("adds nothing when the transaction does not commit", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      const failure = new DomainError("FAILED_PRECONDITION", "the change did not work")
      await assert.rejects(harness.add([outboxEntry(topic, tenant, "k", 0)], failure), failure)
      assert.deepEqual((await claim(topic)).entries, [])
    })

    it("keeps the order of a key, also over transactions, and cuts batches at their limits", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "a", 3))
      await harness.add([outboxEntry(topic, tenant, "b", 0), outboxEntry(topic, tenant, "a", 3)])
      const first = await claim(topic, 2)
      assert.deepEqual(opIds(first.entries), ["a:0", "a:1"])
      // The rest of a key waits for its beginning; other keys do not.
      assert.deepEqual(opIds((await claim(topic)).entries), ["b:0"])
      await store.settle(scope, first, { done: idsOf(first) })
      const weighed = await claim(topic, 100, 5)
      assert.deepEqual(opIds(weighed.entries), ["a:2"], "3 bytes fit, 6 do not")
      await store.settle(scope, weighed, { done: idsOf(weighed) })
      assert.deepEqual(opIds((await claim(topic, 100, 1)).entries), ["a:3"], "one entry always fits")
    })

    it("keeps keys of different tenants and topics apart", async () => {
      const [topic, other] = [freshTopic(), freshTopic()]
      const [one, two] = [harness.freshTenant(), harness.freshTenant()]
      await harness.add([outboxEntry(topic, one, "k", 0), outboxEntry(other, one, "k", 1)])
      await harness.add([outboxEntry(topic, two, "k", 2)])
      const first = await claim(topic, 1)
      assert.deepEqual(opIds(first.entries), ["k:0"])
      assert.deepEqual(opIds((await claim(topic)).entries), ["k:2"])
      assert.deepEqual(opIds((await claim(other)).entries), ["k:1"])
    })

    it("delivers again when a lease has elapsed, and refuses whoever had it before", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 2))
      const dead = await claim(topic, 1)
      harness.clock.advance(LEASE_MS + 1)
      const next = await claim(topic)
      assert.deepEqual(opIds(next.entries), ["k:0", "k:1"])
      assert.ok(next.fence > dead.fence)
      const [id = ""] = idsOf(dead)
      const retry = [{ id, delayMs: 1, strike: true, fault: FAULT }]
      const late = [{ done: [id] }, { release: [id] }, { retry }, { park: [{ id, fault: FAULT }] }]
      for (const settlement of late) assert.equal(await store.settle(scope, dead, settlement), 0)
      assert.equal(await store.settle(scope, next, { done: idsOf(next) }), 2)
    })

    it("holds a key back until its next try, and counts failures and strikes", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add([...outboxEntries(topic, tenant, "a", 2), outboxEntry(topic, tenant, "b", 0)])
      const batch = await claim(topic)
      const [first = "", second = "", third = ""] = idsOf(batch)
      const retry = [{ id: first, delayMs: 5_000, strike: false, fault: FAULT }]
      assert.equal(await store.settle(scope, batch, { retry, release: [second, third] }), 3)
      const other = await claim(topic)
      assert.deepEqual(opIds(other.entries), ["b:0"])
      await store.settle(scope, other, {
        retry: [{ id: third, delayMs: 5_000, strike: true, fault: FAULT }],
      })
      assert.deepEqual((await claim(topic)).entries, [])
      harness.clock.advance(5_001)
      const again = await claim(topic)
      assert.deepEqual(
        again.entries.map(({ opId, failures, strikes }) => [opId, failures, strikes]),
        [
          ["a:0", 1, 0],
          ["a:1", 0, 0],
          ["b:0", 1, 1],
        ],
      )
    })

    it("parks what is hopeless: listed without its payload, out of the way, and replayed in its place", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 2))
      const batch = await claim(topic, 1)
      const [id = ""] = idsOf(batch)
      const fault = { reason: "INVALID_FIELD", message: "bad \u0000 \ud800 text" }
      await store.settle(scope, batch, { park: [{ id, fault }] })
      const [listed] = await parked(topic)
      assert.ok(listed !== undefined)
      assert.deepEqual(
        [listed.id, listed.tenant, listed.key, listed.opId, listed.payloadBytes, listed.failures],
        [id, tenant, "k", "k:0", 3, 1],
      )
      assert.deepEqual(listed.fault, { reason: "INVALID_FIELD", message: "bad  \ufffd text" })
      assert.ok(!("payload" in listed))
      const later = await claim(topic)
      assert.deepEqual(opIds(later.entries), ["k:1"])
      assert.equal(await store.replay(scope, { topic: freshTopic() }, 10), 0)
      assert.equal(await store.replay(scope, { topic, ids: [id] }, 10), 1)
      assert.deepEqual((await claim(topic)).entries, [], "another entry of the key is under a lease")
      await store.settle(scope, later, { release: idsOf(later) })
      const replayed = await claim(topic)
      assert.deepEqual(opIds(replayed.entries), ["k:0", "k:1"])
      assert.deepEqual([replayed.entries[0]?.failures, replayed.entries[0]?.strikes], [1, 0])
      assert.deepEqual(await parked(topic), [])
    })

    it("pages through parked entries, and replays as many as it is told, once per request_id", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(Array.from({ length: 5 }, (_, n) => outboxEntry(topic, tenant, `k${n}`, n)))
      const batch = await claim(topic)
      await store.settle(scope, batch, { park: idsOf(batch).map((id) => ({ id, fault: FAULT })) })
      const seen: string[] = []
      let cursor: readonly string[] | undefined
      do {
        const page = await store.listParked(scope, topic, { size: 2, cursor })
        seen.push(...opIds(page.items))
        cursor = page.next
      } while (cursor !== undefined)
      assert.deepEqual(seen, opIds(batch.entries))
      const method = "keelplane.v1.AdminService/ReplayOutbox"
      const keyed = (body: number): CallScope => ({
        ...scope,
        idempotency: { method, requestId: topic, bodyHash: new Uint8Array(32).fill(body) },
      })
      assert.equal(await store.replay(keyed(1), { topic }, 2), 2)
      assert.equal(await store.replay(keyed(1), { topic }, 2), 2)
      assert.equal((await parked(topic)).length, 3)
      await assert.rejects(store.replay(keyed(2), { topic }, 2), { reason: "REQUEST_ID_REUSED" })
      assert.deepEqual(opIds((await claim(topic)).entries), seen.slice(0, 2))
    })

    it("tells how far each topic is behind", async () => {
      const [topic, tenant] = [freshTopic(), harness.freshTenant()]
      await harness.add(outboxEntries(topic, tenant, "k", 3))
      const status = async () => (await store.status(scope)).find((one) => one.topic === topic)
      const behind = await status()
      assert.deepEqual([behind?.pending, behind?.parked], [3n, 0n])
      assert.ok(behind?.oldestAgeMs !== undefined && behind.oldestAgeMs >= 0)
      const batch = await claim(topic)
      const [first = "", ...rest] = idsOf(batch)
      await store.settle(scope, batch, { park: [{ id: first, fault: FAULT }], done: rest })
      const after = await status()
      assert.deepEqual([after?.pending, after?.parked, after?.oldestAgeMs], [0n, 1n, undefined])
      await store.replay(scope, { topic }, 1)
      const last = await claim(topic)
      await store.settle(scope, last, { done: idsOf(last) })
      assert.equal(await status(), undefined)
    })

    it("gives every entry to one of many claims at the same time, whole keys at a time", async () => {
      const topic = freshTopic()
      const tenant = harness.freshTenant()
      for (let n = 0; n < 4; n++) {
        await harness.add(Array.from({ length: 10 }, (_, k) => outboxEntry(topic, tenant, `k${k}`, n)))
      }
      const daemons = Array.from({ length: 6 }, () => harness.another())
      const batches = await Promise.all(
        daemons.map((daemon) => daemon.claim(scope, { topic, max: 7, maxBytes: 1e6, leaseMs: LEASE_MS })),
      )
      const ids = batches.flatMap(idsOf)
      assert.equal(new Set(ids).size, ids.length)
      const holders = new Map<string, bigint>()
      for (const { fence, entries } of batches) {
        for (const { key } of entries) {
          assert.equal(holders.get(key) ?? fence, fence, `two claims have ${key}`)
          holders.set(key, fence)
        }
      }
      // Ten keys, and the first claim took the first entries of seven of them.
      assert.ok(holders.size >= 7)
    })
  })
}
