/** The audit suites on Cassandra; and its chain among daemons, over a bad line, across segments, and after tampering. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { AuditRecord } from "../../src/domain/event/audit-model.ts"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import type { CassandraEngine, Cluster } from "../../src/stores/cassandra/index.ts"
import { auditContract } from "../contract/audit.contract.ts"
import { auditExportContract } from "../contract/audit-export.contract.ts"
import { type AuditHarness, DAY_MS, entry, queryAll, withRequestId } from "../contract/audit-support.ts"
import { auditClassesContract } from "../contract/retention.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { lossyCluster } from "./cassandra-faults.ts"

const entries = (count: number) => Array.from({ length: count }, (_, at) => entry({ resourceId: `${at}` }))

function daemons(cluster: () => Promise<Cluster>): void {
  describe("an audit log of several daemons", () => {
    it("is one chain, also where they begin it and cross midnight together", async () => {
      const cql = await cluster()
      const clocks = [heldClock(), heldClock(), heldClock()]
      const stores = clocks.map((clock) => createCassandraAuditStore({ cql, clock }))
      const scope = systemScope(freshTenant())
      const round = () =>
        Promise.all(
          Array.from({ length: 30 }, (_, at) => stores[at % 3]?.record(scope, entries(1 + (at % 2))) ?? []),
        )
      const receipts = (await round()).flat()
      // One is a day ahead, then all of them.
      clocks[1]?.advance(DAY_MS)
      receipts.push(...(await round()).flat())
      clocks[0]?.advance(DAY_MS)
      clocks[2]?.advance(DAY_MS)
      receipts.push(...(await round()).flat())
      const [store] = stores
      assert.ok(store)
      const verdict = await verifyAudit(scope, store, { maxDays: 9 })
      assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, BigInt(receipts.length)])
      assert.equal(new Set(receipts.map(({ day, sequence }) => `${day} ${sequence}`)).size, receipts.length)
      assert.equal((await queryAll(store, scope)).length, receipts.length)
    })

    it("answers a repetition at whichever of them, also on the next day", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const [one, two] = [1, 2].map(() => createCassandraAuditStore({ cql, clock }))
      assert.ok(one && two)
      const scope = systemScope(freshTenant())
      const call = withRequestId(scope, "r", 1)
      const [first] = await one.record(call, entries(1))
      clock.advance(DAY_MS / 2)
      await two.record(scope, entries(1))
      const [again] = await two.record(call, entries(1))
      assert.deepEqual([again?.id, again?.day, again?.sequence], [first?.id, first?.day, first?.sequence])
      assert.equal((await queryAll(one, scope)).length, 2)
    })
  })
}

function badLine(cluster: () => Promise<Cluster>): void {
  describe("an audit log over a bad line", () => {
    it("records once though answers and requests get lost", async () => {
      const { cql, losses } = lossyCluster(await cluster())
      const store = createCassandraAuditStore({ cql, clock: heldClock() })
      const scope = systemScope(freshTenant())
      for (let at = 0; at < 6; at++) {
        losses.casAnswers = at % 3
        losses.casRequests = at % 2
        const [receipt] = await store.record(scope, entries(1))
        assert.equal(receipt?.sequence, BigInt(at + 1))
      }
      assert.equal((await verifyAudit(scope, store, { maxDays: 9 })).recordsChecked, 6n)
    })

    it("shows what was recorded even where it could not be filed, and files it with the next record", async () => {
      const whole = await cluster()
      const { cql, losses } = lossyCluster(whole)
      const clock = heldClock()
      const scope = systemScope(freshTenant())
      const ailing = createCassandraAuditStore({ cql, clock })
      await ailing.record(scope, entries(2))
      losses.refuse = "insert into audit_by_time"
      await ailing.record(scope, entries(3))
      const store = createCassandraAuditStore({ cql: whole, clock })
      assert.equal((await queryAll(store, scope)).length, 5)
      const range = { startMs: 0, endMs: clock.now() + 1 }
      assert.equal((await store.summarize(scope, range, "day", 1)).total.count, 5n)
      const filed = async () =>
        (
          await whole.read(scope, {
            cql: "select seq from audit_by_time where tenant = ? and time_day = ?",
            values: [scope.tenant, new Date(clock.now()).toISOString().slice(0, 10)],
          })
        ).length
      assert.equal(await filed(), 2)
      await store.record(scope, entries(1))
      assert.equal(await filed(), 6)
      assert.equal((await queryAll(store, scope)).length, 6)
    })
  })
}

function segments(cluster: () => Promise<Cluster>): void {
  describe("a day in several partitions", () => {
    it("is one chain and one list to every method", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const store = createCassandraAuditStore({ cql, clock, segmentRecords: 5 })
      const scope = systemScope(freshTenant())
      for (let at = 0; at < 6; at++) await store.record(scope, entries(3))
      const [head] = await store.days(scope, undefined, undefined, 9)
      assert.deepEqual([head?.records, head?.lastSequence], [18n, 18n])
      const day = head?.day ?? ""
      const parts = await cql.read(scope, {
        cql: "select segment from audit_log_segments where tenant = ?",
        values: [scope.tenant],
      })
      assert.equal(parts.length, 3)
      const verdict = await verifyAudit(scope, store, { maxDays: 9 })
      assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, 18n])
      assert.equal((await queryAll(store, scope)).length, 18)
      const after = await store.scan(scope, {}, { day, sequence: 4n }, 20)
      assert.deepEqual(
        after.map(({ sequence }) => Number(sequence)),
        Array.from({ length: 14 }, (_, at) => at + 5),
      )
      assert.equal(await store.findHash(scope, day, after.at(-1)?.hash ?? new Uint8Array()), 18n)
      clock.advance(DAY_MS)
      await store.record(scope, entries(1))
      assert.equal((await store.dayBefore(scope, "9999-12-31"))?.records, 1n)
      const [next] = await store.days(scope, "9999-01-01", undefined, 1)
      assert.equal(next, undefined)
      assert.equal((await verifyAudit(scope, store, { maxDays: 9 })).recordsChecked, 19n)
    })
  })
}

function retention(cluster: () => Promise<Cluster>): void {
  describe("audit retention", () => {
    it("never takes a day that is younger than seven years, whatever it is told", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const store = createCassandraAuditStore({ cql, clock })
      const scope = systemScope(freshTenant())
      await store.record(scope, entries(1))
      clock.advance(DAY_MS)
      await store.record(scope, entries(1))
      assert.equal(await store.retire(scope, new ByTenant("9999-01-01"), 100), 0)
      assert.equal((await queryAll(store, scope)).length, 2)
    })

    it("takes old days of all tenants with all of their partitions, and goes on where a run has died", async () => {
      const whole = await cluster()
      const clock = heldClock()
      const now = clock.now()
      clock.advance(Date.UTC(2014, 1, 1) - now)
      const { cql, losses } = lossyCluster(whole)
      const store = createCassandraAuditStore({ cql, clock, segmentRecords: 2 })
      const scopes = [systemScope(freshTenant()), systemScope(freshTenant())]
      for (const scope of scopes) for (let at = 0; at < 3; at++) await store.record(scope, entries(2))
      clock.advance(now - clock.now())
      for (const scope of scopes) await store.record(scope, entries(1))
      losses.refuse = "delete from audit_log"
      await assert.rejects(store.retire(systemScope(), new ByTenant("2015-01-01"), 100))
      losses.refuse = ""
      assert.ok((await store.retire(systemScope(), new ByTenant("2015-01-01"), 100)) >= 2)
      for (const scope of scopes) {
        const verdict = await verifyAudit(scope, store, { maxDays: 9 })
        assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, 1n])
        assert.equal((await queryAll(store, scope)).length, 1)
        assert.equal((await store.chain(scope, "2014-02-01", 0n, 9)).length, 0)
      }
    })
  })
}

/** What a person with the owner's password could do to a day's partition. */
type Tamper = (forge: {
  /** Puts another record in the place of a sequence. */
  put(sequence: bigint, change: (record: Record<string, unknown>) => Record<string, unknown>): Promise<void>
  /** Puts the record of one sequence in the place of another, as it is. */
  copy(from: bigint, to: bigint): Promise<void>
  remove(sequence: bigint): Promise<void>
  run(cql: string): Promise<void>
}) => Promise<void>

const CASES: readonly (readonly [name: string, day: number, expected: readonly unknown[], tamper: Tamper])[] =
  [
    ["an altered field", 0, [3n, "altered"], (day) => day.put(3n, (old) => ({ ...old, actor: "mallory" }))],
    [
      "an altered detail",
      1,
      [5n, "altered"],
      (day) => day.put(5n, (old) => ({ ...old, detailsJson: '{"a":1}' })),
    ],
    [
      "an altered link",
      0,
      [2n, "altered"],
      (day) => day.put(2n, (old) => ({ ...old, prevHash: "00".repeat(32) })),
    ],
    ["a deleted record", 0, [4n, "missing"], (day) => day.remove(4n)],
    ["a deleted tail", 1, [5n, "missing"], (day) => day.remove(5n)],
    [
      "two records that changed places",
      0,
      [2n, "reordered"],
      async (day) => {
        await day.copy(2n, 99n)
        await day.copy(3n, 2n)
        await day.copy(99n, 3n)
        await day.remove(99n)
      },
    ],
    ["a record put in past the recorder", 1, [6n, "added"], (day) => day.copy(5n, 6n)],
    [
      "a whole day that is gone",
      0,
      [0n, "missing"],
      (day) => day.run("delete from audit_log where tenant = ? and segment = ?"),
    ],
    [
      "the newest day that is gone",
      1,
      [0n, "missing"],
      (day) => day.run("delete from audit_log where tenant = ? and segment = ?"),
    ],
  ]

function tampering(make: () => Promise<AuditHarness & { readonly cql: Cluster }>): void {
  describe("tampering", () => {
    for (const [name, day, expected, tamper] of CASES) {
      it(`finds ${name}`, async () => {
        const { store, clock, cql } = await make()
        const scope = systemScope(freshTenant())
        const days: string[] = []
        for (let at = 0; at < 2; at++) {
          const [first] = await store.record(scope, entries(5))
          days.push(first?.day ?? "")
          clock.advance(DAY_MS)
        }
        const before = await verifyAudit(scope, store, { maxDays: 9 })
        assert.deepEqual([before.firstBreak, before.recordsChecked], [undefined, 10n])
        await tamper(forgery(cql, scope, `${days[day]}/0000`))
        // By another daemon, which remembers nothing.
        const { firstBreak } = await verifyAudit(scope, createCassandraAuditStore({ cql, clock }), {
          maxDays: 9,
        })
        assert.deepEqual([firstBreak?.sequence, firstBreak?.kind], expected)
      })
    }
  })
}

function forgery(cql: Cluster, scope: CallScope, segment: string): Parameters<Tamper>[0] {
  const place = [scope.tenant, segment]
  const body = async (sequence: bigint): Promise<string> => {
    const [row] = await cql.read<{ body: string }>(scope, {
      cql: "select body from audit_log where tenant = ? and segment = ? and seq = ?",
      values: [...place, sequence],
    })
    return row?.body ?? ""
  }
  const write = (sequence: bigint, text: string) =>
    cql.write(scope, {
      cql: "insert into audit_log (tenant, segment, seq, request, body) values (?, ?, ?, '', ?)",
      values: [...place, sequence, text],
    })
  return {
    put: async (sequence, change) => {
      const record = JSON.parse(await body(sequence)) as Partial<AuditRecord>
      await write(sequence, JSON.stringify(change({ ...record })))
    },
    copy: async (from, to) => write(to, await body(from)),
    remove: (sequence) =>
      cql.write(scope, {
        cql: "delete from audit_log where tenant = ? and segment = ? and seq = ?",
        values: [...place, sequence],
      }),
    run: (text) => cql.write(scope, { cql: text, values: place }),
  }
}

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const cluster = async (): Promise<Cluster> => {
    opened ??= testCassandra()
    return (await opened).session
  }
  const make = async (): Promise<AuditHarness & { readonly cql: Cluster }> => {
    const clock = heldClock()
    const cql = await cluster()
    return { store: createCassandraAuditStore({ cql, clock }), freshTenant, clock, cql }
  }
  auditContract(make)
  auditExportContract(make)
  auditClassesContract(make)
  daemons(cluster)
  badLine(cluster)
  segments(cluster)
  retention(cluster)
  tampering(make)
})
