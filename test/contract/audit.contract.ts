/** What every audit log must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { auditHash, sameHash, utcDay } from "../../src/domain/event/audit-chain.ts"
import { AUDIT_BATCH_MAX, type AuditRecord } from "../../src/domain/event/audit-model.ts"
import { AUDIT_FILTER_FIELDS, type AuditQuery, type AuditStore } from "../../src/domain/event/audit-ports.ts"
import { retireAudit } from "../../src/domain/event/audit-retention.ts"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { type AuditHarness, DAY_MS, entry, queryAll, rejects, withRequestId } from "./audit-support.ts"

/** Registers the suite. */
export function auditContract(make: () => Promise<AuditHarness>): void {
  describe("audit store", () => {
    let harness: AuditHarness
    let store: AuditStore
    before(async () => {
      harness = await make()
      store = harness.store
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())
    const verify = (scope: CallScope) => verifyAudit(scope, store, { maxDays: 400 })

    it("names a record as its entry does, and by itself where the entry does not", async () => {
      const scope = fresh()
      const receipts = await store.record(scope, [entry({ id: "given" }), entry()])
      const records = (await queryAll(store, scope)).map(({ id }) => id).sort()
      assert.deepEqual(receipts.map(({ id }) => id).sort(), records)
      assert.equal(receipts[0]?.id, "given")
      assert.match(receipts[1]?.id ?? "", /^[0-9a-f]{8}-/)
    })

    it("chains records: gapless sequences, each hash over the one before", async () => {
      const scope = fresh()
      const details = { ü: "\n\u{1f600}", b: [1.5, null, { z: 1, a: 2 }], __proto__x: true, "10": 1, "9": 2 }
      const receipts = await store.record(scope, [
        entry({ details, timeMs: 12_345 }),
        entry({ resourceId: "" }),
      ])
      assert.deepEqual(
        receipts.map(({ sequence }) => sequence),
        [1n, 2n],
      )
      const day = utcDay(harness.clock.now())
      const [one, two] = await store.chain(scope, day, 0n, 10)
      assert.ok(one && two)
      assert.equal(one.timeMs, 12_345)
      assert.equal(one.recordMs, harness.clock.now())
      assert.equal(two.timeMs, harness.clock.now())
      assert.deepEqual(JSON.parse(one.detailsJson), details)
      assert.ok(sameHash(one.prevHash, new Uint8Array(32)))
      assert.ok(sameHash(two.prevHash, one.hash))
      for (const record of [one, two]) {
        assert.ok(sameHash(auditHash(scope.tenant, record, record.prevHash), record.hash))
      }
      assert.ok(receipts[1] && sameHash(receipts[1].hash, two.hash))
    })

    it("begins the chain of a day with the head of the day before, and never goes back", async () => {
      const scope = fresh()
      await store.record(scope, [entry()])
      harness.clock.advance(3 * DAY_MS)
      const [next] = await store.record(scope, [entry()])
      assert.equal(next?.sequence, 1n)
      harness.clock.advance(-2 * DAY_MS)
      const [late] = await store.record(scope, [entry()])
      assert.deepEqual([late?.day, late?.sequence], [next?.day, 2n])
      harness.clock.advance(2 * DAY_MS)
      const days = await store.days(scope, undefined, undefined, 10)
      assert.deepEqual(
        days.map(({ records }) => records),
        [1n, 2n],
      )
      assert.ok(days[0] && days[1] && sameHash(days[0].head, days[1].prevHash))
      const verdict = await verify(scope)
      assert.equal(verdict.firstBreak, undefined)
      assert.equal(verdict.recordsChecked, 3n)
    })

    it("keeps one chain under concurrent recorders, none lost, each batch together", async () => {
      const scope = fresh()
      const batches = await Promise.all(
        Array.from({ length: 100 }, (_, i) =>
          store.record(
            scope,
            Array.from({ length: (i % 3) + 1 }, () => entry({ actor: `a${i}` })),
          ),
        ),
      )
      const sequences = batches.flat().map(({ sequence }) => Number(sequence))
      assert.deepEqual(
        [...sequences].sort((a, b) => a - b),
        sequences.map((_, i) => i + 1),
      )
      for (const batch of batches) {
        const first = batch[0]?.sequence ?? 0n
        assert.deepEqual(
          batch.map(({ sequence }) => sequence),
          batch.map((_, i) => first + BigInt(i)),
        )
      }
      const verdict = await verify(scope)
      assert.equal(verdict.firstBreak, undefined)
      assert.equal(verdict.recordsChecked, BigInt(sequences.length))
    })

    it("takes the largest batch", async () => {
      const scope = fresh()
      const receipts = await store.record(
        scope,
        Array.from({ length: AUDIT_BATCH_MAX }, () => entry()),
      )
      assert.equal(receipts.at(-1)?.sequence, BigInt(AUDIT_BATCH_MAX))
    })

    it("answers a repeated request_id with the first receipts", async () => {
      const scope = fresh()
      const call = withRequestId(scope, "r1", 1)
      const first = await store.record(call, [entry()])
      const again = await store.record(call, [entry()])
      assert.deepEqual(
        again.map(({ id, sequence }) => [id, sequence]),
        first.map(({ id, sequence }) => [id, sequence]),
      )
      await rejects(store.record(withRequestId(scope, "r1", 2), [entry()]), "REQUEST_ID_REUSED")
      assert.equal((await queryAll(store, scope)).length, 1)
    })

    it("keeps tenants apart in every method", async () => {
      const [one, two] = [fresh(), fresh()]
      await store.record(one, [entry()])
      const day = utcDay(harness.clock.now())
      assert.equal((await queryAll(store, two)).length, 0)
      assert.equal((await store.scan(two, {}, undefined, 10)).length, 0)
      assert.equal((await store.days(two, undefined, undefined, 10)).length, 0)
      assert.equal((await store.chain(two, day, 0n, 10)).length, 0)
      assert.equal(await store.chainHead(two), undefined)
      const range = { startMs: 0, endMs: harness.clock.now() + 1 }
      assert.equal((await store.summarize(two, range, "day", 10)).total.count, 0n)
      const [mine] = await store.record(two, [entry()])
      assert.equal(mine?.sequence, 1n)
      assert.equal((await verify(two)).recordsChecked, 1n)
    })

    it("finds by actor, action, resource, outcome, time and filter", async () => {
      const scope = fresh()
      await store.record(scope, [
        entry({ actor: "ada", action: "read", resourceType: "doc", resourceId: "1", timeMs: 1_000 }),
        entry({ actor: "Ada", action: "write", resourceType: "doc", resourceId: "2", timeMs: 2_000 }),
        entry({ actor: "bob", outcome: "denied", timeMs: 3_000, details: { model: "m1", tokens: 12 } }),
      ])
      const count = async (query: AuditQuery) => (await queryAll(store, scope, query)).length
      assert.equal(await count({ actor: "ada" }), 1)
      assert.equal(await count({ action: "write" }), 1)
      assert.equal(await count({ resourceType: "doc", resourceId: "2" }), 1)
      assert.equal(await count({ outcome: "denied" }), 1)
      assert.equal(await count({ startMs: 2_000, endMs: 3_000 }), 1)
      const filter = (text: string) => ({ filter: parseFilter(text, AUDIT_FILTER_FIELDS) })
      assert.equal(await count(filter('details.model = "m1" AND details.tokens > 10')), 1)
      assert.equal(await count(filter('outcome != "denied" AND time >= "1970-01-01T00:00:02Z"')), 1)
      assert.equal(await count({ actor: "bob", ...filter('actor = "ada"') }), 0)
    })

    it("pages from the latest, neither repeating nor losing while records arrive", async () => {
      const scope = fresh()
      for (let i = 0; i < 3; i++) {
        // Equal times too: the order must still be total.
        await store.record(scope, [entry({ timeMs: 1_000 * i }), entry({ timeMs: 1_000 * i })])
      }
      const all = (await queryAll(store, scope)).map(({ id }) => id)
      assert.equal(all.length, 6)
      const seen: string[] = []
      let cursor: readonly string[] | undefined
      do {
        const page = await store.query(scope, {}, { size: 2, cursor })
        seen.push(...page.items.map(({ id }) => id))
        cursor = page.next
        await store.record(scope, [entry({ timeMs: 9_000_000 })])
      } while (cursor !== undefined)
      assert.deepEqual(seen, all)
    })

    it("cuts pages by what records are on the wire", async () => {
      const scope = fresh()
      // Sixteen thousand bytes on the wire, each.
      const details = { zeros: Array.from({ length: 1_450 }, () => 0) }
      await store.record(
        scope,
        Array.from({ length: 400 }, () => entry({ details })),
      )
      const seen = new Set<string>()
      let cursor: readonly string[] | undefined
      do {
        const page = await store.query(scope, {}, { size: 1_000, cursor })
        assert.ok(page.items.length > 0 && page.items.length <= 200, `${page.items.length} records`)
        for (const { id } of page.items) seen.add(id)
        cursor = page.next
      } while (cursor !== undefined)
      assert.equal(seen.size, 400)
    })

    it("summarizes by actor, action, resource, outcome and period", async () => {
      const scope = fresh()
      const noon = Date.UTC(2026, 0, 31, 12)
      const records = [
        entry({ actor: "ada", timeMs: noon }),
        entry({ actor: "ada", timeMs: noon + 3_600_000, outcome: "failure" }),
        entry({ actor: "bob", timeMs: noon + DAY_MS, outcome: "denied", action: "write" }),
        entry({ actor: "eve", timeMs: noon + DAY_MS + 1, resourceId: "other" }),
        entry({ actor: "eve", timeMs: noon - 1 }),
      ]
      await store.record(scope, records)
      const range = { startMs: noon, endMs: noon + 2 * DAY_MS }
      const summary = await store.summarize(scope, range, "month", 2)
      assert.deepEqual(summary.total, { count: 4n, denied: 1n, failed: 1n })
      assert.equal(summary.actors.distinct, 3n)
      assert.deepEqual(summary.actors.top, [
        { value: "ada", count: 2n, denied: 0n, failed: 1n },
        { value: "bob", count: 1n, denied: 1n, failed: 0n },
      ])
      assert.deepEqual(
        summary.resources.top.map(({ value, count }) => [value, count]),
        [
          ["doc/1", 3n],
          ["doc/other", 1n],
        ],
      )
      assert.deepEqual(
        summary.periods.map(({ startMs, count }) => [new Date(startMs).toISOString(), count]),
        [
          ["2026-01-01T00:00:00.000Z", 2n],
          ["2026-02-01T00:00:00.000Z", 2n],
        ],
      )
      assert.equal((await store.summarize(scope, range, "hour", 2)).periods.length, 3)
      assert.equal((await store.summarize(scope, { ...range, actor: "ada" }, "day", 2)).total.count, 2n)
    })

    it("scans in the order of recording and resumes", async () => {
      const scope = fresh()
      await store.record(scope, [entry({ timeMs: 5_000 }), entry({ timeMs: 1_000 })])
      harness.clock.advance(DAY_MS)
      await store.record(scope, [entry({ timeMs: 3_000 })])
      const seen: AuditRecord[] = []
      for (;;) {
        const last = seen.at(-1)
        const after = last === undefined ? undefined : { day: last.day, sequence: last.sequence }
        const [record] = await store.scan(scope, {}, after, 1)
        if (record === undefined) break
        seen.push(record)
      }
      assert.deepEqual(
        seen.map(({ timeMs }) => timeMs),
        [5_000, 1_000, 3_000],
      )
    })

    it("retires whole days after seven years and still verifies from their anchors", async () => {
      const scope = fresh()
      const start = harness.clock.now()
      harness.clock.advance(Date.UTC(2015, 5, 1) - start)
      await store.record(scope, [entry(), entry()])
      harness.clock.advance(DAY_MS)
      await store.record(scope, [entry()])
      harness.clock.advance(start - harness.clock.now())
      await store.record(scope, [entry()])
      assert.equal(await retireAudit(scope, store, harness.clock, 1), 1)
      assert.equal(await retireAudit(scope, store, harness.clock, 10), 1)
      assert.equal(await retireAudit(scope, store, harness.clock, 10), 0)
      assert.equal((await queryAll(store, scope)).length, 1)
      const verdict = await verify(scope)
      assert.equal(verdict.firstBreak, undefined)
      assert.deepEqual(
        verdict.days.map(({ retired, records }) => [retired, records]),
        [
          [true, 2n],
          [true, 1n],
          [false, 1n],
        ],
      )
      assert.equal(verdict.recordsChecked, 1n)
    })

    it("keeps the newest day open, however old it is", async () => {
      const scope = fresh()
      const start = harness.clock.now()
      harness.clock.advance(Date.UTC(2015, 5, 1) - start)
      await store.record(scope, [entry()])
      harness.clock.advance(start - harness.clock.now())
      assert.equal(await retireAudit(scope, store, harness.clock, 10), 0)
    })

    it("checks a range of days and says where to go on", async () => {
      const scope = fresh()
      for (let i = 0; i < 3; i++) {
        await store.record(scope, [entry()])
        harness.clock.advance(DAY_MS)
      }
      const first = await verifyAudit(scope, store, { maxDays: 2 })
      assert.equal(first.days.length, 2)
      assert.ok(first.nextStartDay)
      const rest = await verifyAudit(scope, store, { startDay: first.nextStartDay, maxDays: 2 })
      assert.deepEqual([rest.days.length, rest.nextStartDay, rest.firstBreak], [1, undefined, undefined])
      const none = await verifyAudit(scope, store, { endDay: "1999-01-01", maxDays: 2 })
      assert.deepEqual([none.days.length, none.firstBreak], [0, undefined])
    })

    it("does nothing for a call that has ended already", async () => {
      const tenant = harness.freshTenant()
      const late: CallScope = { ...systemScope(tenant), deadlineMs: Date.now() - 1 }
      await rejects(store.record(late, [entry()]), "DEADLINE_EXCEEDED")
      const cancelled = systemScope(tenant, AbortSignal.abort(new DomainError("CANCELLED", "gone")))
      await rejects(store.record(cancelled, [entry()]), "CANCELLED")
      assert.equal((await queryAll(store, systemScope(tenant))).length, 0)
    })
  })
}
