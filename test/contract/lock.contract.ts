/** What every store of locks must do, and the waiting over it. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { LockRequest, LockStore } from "../../src/domain/cache/lock-model.ts"
import { LockQueue } from "../../src/domain/cache/lock-queue.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"

/** A store under test. */
export interface LockHarness {
  readonly store: LockStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the store sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

/** Registers the suite. */
export function lockContract(make: () => Promise<LockHarness>): void {
  describe("lock store", () => {
    let harness: LockHarness
    let store: LockStore
    before(async () => {
      harness = await make()
      store = harness.store
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    it("gives a free lock and refuses a held one, naming the holder", async () => {
      const scope = fresh()
      const metadata = { host: "ünï", nested: [1, null] }
      const mine = await store.tryAcquire(scope, request({ ownerId: "ada", metadata, ttlMs: 5_000 }))
      assert.equal(mine.acquired, true)
      const expected = {
        ownerId: "ada",
        token: mine.holder?.token,
        acquireMs: harness.clock.now(),
        expireMs: harness.clock.now() + 5_000,
        metadata,
      }
      assert.deepEqual(mine.holder, expected)
      // Not re-entrant: the same owner is refused too.
      const theirs = await store.tryAcquire(scope, request({ ownerId: "ada" }))
      assert.deepEqual(theirs, { acquired: false, holder: expected })
      assert.deepEqual(await store.get(scope, "lock"), expected)
      assert.equal(await store.get(scope, "nobody's"), undefined)
    })

    it("raises the token with every acquisition, over release and expiry", async () => {
      const scope = fresh()
      let last = 0n
      for (let i = 0; i < 6; i++) {
        const token = await acquire(store, scope, { ttlMs: 1_000 })
        assert.ok(token > last)
        last = token
        if (i % 2 === 0) await store.release(scope, "lock", token)
        else harness.clock.advance(1_000)
      }
    })

    it("raises the token when the clock stands still or the row was swept", async () => {
      const scope = fresh()
      const first = await acquire(store, scope)
      await store.release(scope, "lock", first)
      const second = await acquire(store, scope)
      assert.ok(second > first)
      await store.release(scope, "lock", second)
      assert.equal(await store.sweep(scope, 10), 0)
      harness.clock.advance(24 * 3_600_000 + 1)
      assert.equal(await store.sweep(scope, 10), 1)
      assert.ok((await acquire(store, scope)) > second)
    })

    it("lets nobody renew or release after the lease elapsed, taken by another or not", async () => {
      const scope = fresh()
      const old = await acquire(store, scope, { ttlMs: 1_000 })
      harness.clock.advance(1_000)
      assert.equal(await store.get(scope, "lock"), undefined)
      await rejects(store.renew(scope, "lock", old, 1_000), "LOCK_NOT_HELD")
      await rejects(store.release(scope, "lock", old), "LOCK_NOT_HELD")
      const token = await acquire(store, scope)
      await rejects(store.renew(scope, "lock", old, 1_000), "LOCK_NOT_HELD")
      await rejects(store.release(scope, "lock", old), "LOCK_NOT_HELD")
      assert.equal((await store.get(scope, "lock"))?.token, token)
      await store.release(scope, "lock", token)
      await rejects(store.release(scope, "lock", token), "LOCK_NOT_HELD")
      await rejects(store.release(scope, "unknown", 1n), "LOCK_NOT_HELD")
    })

    it("renews from now", async () => {
      const scope = fresh()
      const token = await acquire(store, scope, { ttlMs: 1_000 })
      harness.clock.advance(999)
      assert.equal(await store.renew(scope, "lock", token, 2_000), harness.clock.now() + 2_000)
      harness.clock.advance(1_999)
      assert.equal((await store.tryAcquire(scope, request())).acquired, false)
      assert.equal((await store.get(scope, "lock"))?.token, token)
    })

    it("compares names byte for byte and keeps tenants apart", async () => {
      const [one, two] = [fresh(), fresh()]
      for (const name of ["lock", "LOCK", "lóck", "lo\u0301ck", "lock ", "\u{1f512}"]) {
        const token = await acquire(store, one, { name })
        await acquire(store, two, { name })
        await rejects(store.renew(two, name, token - 1n, 1_000), "LOCK_NOT_HELD")
        await store.release(one, name, token)
        assert.equal(await store.get(one, name), undefined)
        assert.notEqual(await store.get(two, name), undefined)
      }
    })

    it("gives one of many concurrent callers the lock", async () => {
      const scope = fresh()
      const attempts = await Promise.all(
        Array.from({ length: 50 }, (_, i) => store.tryAcquire(scope, request({ ownerId: `o${i}` }))),
      )
      assert.equal(attempts.filter(({ acquired }) => acquired).length, 1)
    })

    it("answers a repeated request_id with the same token, and does not keep a failed attempt", async () => {
      const scope = fresh()
      const call = withRequestId(scope, "r1", 1)
      const first = await store.tryAcquire(call, request())
      assert.equal(first.acquired, true)
      assert.deepEqual(await store.tryAcquire(call, request()), first)
      await rejects(store.tryAcquire(withRequestId(scope, "r1", 2), request()), "REQUEST_ID_REUSED")
      const other = withRequestId(scope, "r2", 1)
      assert.equal((await store.tryAcquire(other, request())).acquired, false)
      await store.release(scope, "lock", first.holder?.token ?? 0n)
      assert.equal((await store.tryAcquire(other, request())).acquired, true)
    })

    it("does nothing for a call that has ended already", async () => {
      const tenant = harness.freshTenant()
      const late: CallScope = { ...systemScope(tenant), deadlineMs: Date.now() - 1 }
      await rejects(store.tryAcquire(late, request()), "DEADLINE_EXCEEDED")
      await rejects(new LockQueue(store).acquire(late, request(), 0), "DEADLINE_EXCEEDED")
      assert.equal(await store.get(systemScope(tenant), "lock"), undefined)
    })
  })

  lockQueueContract(make)
}

function lockQueueContract(make: () => Promise<LockHarness>): void {
  describe("lock queue", () => {
    let harness: LockHarness
    let locks: LockQueue
    before(async () => {
      harness = await make()
      // A poll that never comes: what moves the line is the release itself.
      locks = new LockQueue(harness.store, { pollMs: 3_600_000, maxWaiters: 100 })
    })
    after(() => assert.equal(locks.waiting(), 0))
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    it("never has two holders in 1,000 contended acquisitions, and tokens that only rise", async () => {
      const scope = fresh()
      let [holders, most, last, done] = [0, 0, 0n, 0]
      const worker = async (): Promise<void> => {
        while (done < 1_000) {
          done++
          const attempt = await locks.acquire(scope, request(), 300_000)
          assert.ok(attempt.acquired)
          most = Math.max(most, ++holders)
          assert.ok(attempt.holder.token > last)
          last = attempt.holder.token
          await new Promise((resolve) => setImmediate(resolve))
          holders--
          await locks.release(scope, "lock", attempt.holder.token)
        }
      }
      await Promise.all(Array.from({ length: 20 }, worker))
      assert.equal(most, 1)
    })

    it("never has two holders between two daemons either", async () => {
      const scope = fresh()
      const daemons = [1, 2].map(() => new LockQueue(harness.store, { pollMs: 2 }))
      let [holders, most, last, done] = [0, 0, 0n, 0]
      const worker = async (queue: LockQueue): Promise<void> => {
        while (done < 200) {
          done++
          const attempt = await queue.acquire(scope, request(), 300_000)
          assert.ok(attempt.acquired)
          most = Math.max(most, ++holders)
          assert.ok(attempt.holder.token > last)
          last = attempt.holder.token
          await new Promise((resolve) => setImmediate(resolve))
          holders--
          await queue.release(scope, "lock", attempt.holder.token)
        }
      }
      await Promise.all(daemons.flatMap((queue) => Array.from({ length: 5 }, () => worker(queue))))
      assert.equal(most, 1)
    })

    it("serves waiters in the order they came, and lets nobody overtake them", async () => {
      const scope = fresh()
      const first = await acquire(harness.store, scope)
      const order: number[] = []
      const waiters: Promise<void>[] = []
      for (let i = 0; i < 5; i++) {
        const waiter = locks.acquire(scope, request({ ownerId: `w${i}` }), 300_000).then(async (attempt) => {
          order.push(i)
          assert.ok(attempt.acquired)
          await locks.release(scope, "lock", attempt.holder.token)
        })
        waiters.push(waiter)
        await until(() => locks.waiting(scope, "lock") === i + 1)
      }
      // Past the queue, so that the lock is free while others wait for it: they come first.
      await harness.store.release(scope, "lock", first)
      assert.equal((await locks.acquire(scope, request(), 0)).acquired, false)
      const again = await harness.store.tryAcquire(scope, request())
      if (again.acquired) await locks.release(scope, "lock", again.holder.token)
      await Promise.all(waiters)
      assert.deepEqual(order, [0, 1, 2, 3, 4])
    })

    it("says who holds it when the wait is over, before the deadline", async () => {
      const scope = fresh()
      const token = await acquire(harness.store, scope)
      const hurried = { ...scope, deadlineMs: Date.now() + 1_500 }
      const attempt = await locks.acquire(hurried, request(), 300_000)
      assert.equal(attempt.acquired, false)
      assert.equal(attempt.holder?.token, token)
    })

    it("takes a lock over when the holder's lease elapses", async () => {
      const scope = fresh()
      // Polls quickly: nothing tells this daemon that the clock has moved.
      const polling = new LockQueue(harness.store, { pollMs: 5 })
      const token = await acquire(harness.store, scope, { ttlMs: 1_000 })
      const waiting = polling.acquire(scope, request(), 300_000)
      await until(() => polling.waiting() === 1)
      harness.clock.advance(1_000)
      const attempt = await waiting
      assert.ok(attempt.acquired && attempt.holder.token > token)
    })

    it("leaves neither a waiter nor a lock behind when waits are cancelled, and refuses one too many", async () => {
      const scope = fresh()
      const token = await acquire(harness.store, scope)
      const controller = new AbortController()
      const cancelled = { ...scope, signal: controller.signal }
      const calls = Array.from({ length: 100 }, () => locks.acquire(cancelled, request(), 300_000))
      const settled = Promise.allSettled(calls)
      await until(() => locks.waiting() === 100)
      await rejects(locks.acquire(scope, request(), 300_000), "OVERLOADED")
      // Both at once: the first in line may just be getting it.
      const released = locks.release(scope, "lock", token)
      controller.abort(new DomainError("CANCELLED", "enough"))
      await released
      for (const outcome of await settled) assert.equal(outcome.status, "rejected")
      assert.equal(locks.waiting(), 0)
      assert.equal(await harness.store.get(scope, "lock"), undefined)
    })
  })
}

function request(part: Partial<LockRequest> = {}): LockRequest {
  return { name: "lock", ownerId: "owner", ttlMs: 60_000, metadata: {}, ...part }
}

async function acquire(store: LockStore, scope: CallScope, part: Partial<LockRequest> = {}): Promise<bigint> {
  const attempt = await store.tryAcquire(scope, request(part))
  assert.ok(attempt.acquired)
  return attempt.holder.token
}

function withRequestId(scope: CallScope, requestId: string, body: number): CallScope {
  const bodyHash = new Uint8Array(32).fill(body)
  return { ...scope, idempotency: { method: "keelplane.v1.LockService/AcquireLock", requestId, bodyHash } }
}

async function rejects(call: Promise<unknown>, reason: Reason): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, reason, error.message)
    return true
  })
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
