/** The configuration suite on Cassandra; and its log among daemons, over a bad line, across segments, and owing audit records. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { JsonObject } from "../../src/domain/kernel/json.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import {
  type CassandraConfigStore,
  createCassandraConfigStore,
} from "../../src/stores/cassandra/config-store.ts"
import type { CassandraEngine, Cluster } from "../../src/stores/cassandra/index.ts"
import { queryAll } from "../contract/audit-support.ts"
import { type ConfigHarness, configContract } from "../contract/config.contract.ts"
import { drain, rejects, withRequestId } from "../contract/control-support.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { lossyCluster } from "./cassandra-faults.ts"

type Clock = ReturnType<typeof heldClock>

const PLAIN = { description: "" }

function struct(value: JsonObject) {
  return { kind: "struct", struct: value } as const
}

function storeOn(cql: Cluster, clock: Clock, segmentChanges?: number): CassandraConfigStore {
  return createCassandraConfigStore({
    cql,
    clock,
    segmentChanges,
    audit: createCassandraAuditStore({ cql, clock }),
  })
}

async function log(store: CassandraConfigStore, scope: CallScope): Promise<string[]> {
  const changes = await store.changes(scope, { prefix: "" }, 0n, 1_000)
  assert.deepEqual(
    changes.map(({ sequence }) => Number(sequence)),
    changes.map((_, at) => at + 1),
  )
  return changes.map(({ key, version }) => `${key}@${version}`)
}

function daemons(cluster: () => Promise<Cluster>): void {
  describe("configuration of several daemons", () => {
    it("has one sequence and no fork, whoever begins it", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const stores = [1, 2, 3].map(() => storeOn(cql, clock, 7))
      const [first] = stores
      assert.ok(first)
      const scope = systemScope(freshTenant())
      await Promise.all(
        Array.from({ length: 30 }, (_, at) =>
          stores[at % 3]?.put(scope, `k${at % 4}`, struct({ at }), PLAIN),
        ),
      )
      assert.equal((await log(first, scope)).length, 30)
      const guarded = await Promise.allSettled(
        stores.map((store) => store.put(scope, "once", struct({}), { ...PLAIN, ifVersion: 0n })),
      )
      assert.equal(guarded.filter(({ status }) => status === "fulfilled").length, 1)
      const history = await drain((page) => first.listVersions(scope, "k1", true, page), 3)
      assert.deepEqual(
        history.map(({ version }) => Number(version)),
        [8, 7, 6, 5, 4, 3, 2, 1],
      )
    })

    it("is seen by one daemon as soon as the other has answered", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const [one, two] = [storeOn(cql, clock), storeOn(cql, clock)]
      const scope = systemScope(freshTenant())
      for (let at = 1; at <= 5; at++) {
        await one.put(scope, "k", struct({ at }), PLAIN)
        assert.deepEqual((await two.get(scope, "k")).value, struct({ at }))
        await two.put(scope, "k", struct({ at: -at }), { ...PLAIN, ifVersion: BigInt(2 * at - 1) })
        assert.deepEqual((await one.get(scope, "k")).value, struct({ at: -at }))
      }
      const call = withRequestId(scope, "ControlService/PutConfig", "r", 1)
      const answer = await one.put(call, "k", struct({ once: true }), PLAIN)
      assert.deepEqual(await two.put(call, "k", struct({ once: true }), PLAIN), answer)
      assert.equal((await two.get(scope, "k")).version, 11n)
    })
  })
}

function segments(cluster: () => Promise<Cluster>): void {
  describe("a configuration log in several partitions", () => {
    it("is one to every method, at every sequence", async () => {
      const store = storeOn(await cluster(), heldClock(), 3)
      const scope = systemScope(freshTenant())
      for (let at = 0; at < 11; at++) await store.put(scope, `k${at % 3}`, struct({ at }), PLAIN)
      await store.delete(scope, "k0", PLAIN)
      assert.equal((await log(store, scope)).length, 12)
      assert.deepEqual(
        (await store.changes(scope, { key: "k1" }, 5n, 2)).map(({ sequence }) => sequence),
        [8n, 11n],
      )
      for (const [sequence, expected] of [
        [0n, []],
        [2n, ["k0@1", "k1@1"]],
        [7n, ["k0@3", "k1@2", "k2@2"]],
        [12n, ["k1@4", "k2@3"]],
      ] as const) {
        const live = await store.snapshot(scope, { prefix: "k" }, sequence, undefined, 10)
        assert.deepEqual(
          live.map(({ key, version }) => `${key}@${version}`),
          expected,
        )
      }
      const rest = await store.snapshot(scope, { prefix: "" }, 7n, "k0", 1)
      assert.deepEqual(
        rest.map(({ key }) => key),
        ["k1"],
      )
      assert.deepEqual((await store.rollback(scope, "k0", 1n, PLAIN)).value, struct({ at: 0 }))
    })
  })
}

function badLine(cluster: () => Promise<Cluster>): void {
  describe("configuration over a bad line", () => {
    it("is written once though answers and requests get lost", async () => {
      const { cql, losses } = lossyCluster(await cluster())
      const store = storeOn(cql, heldClock())
      const scope = systemScope(freshTenant())
      for (let at = 1; at <= 6; at++) {
        losses.casAnswers = at % 3
        losses.casRequests = at % 2
        assert.equal((await store.put(scope, "k", struct({ at }), PLAIN)).version, BigInt(at))
      }
      assert.equal((await log(store, scope)).length, 6)
    })

    it("is read as it was written, even where it could not be filed", async () => {
      const whole = await cluster()
      const { cql, losses } = lossyCluster(whole)
      const clock = heldClock()
      const scope = systemScope(freshTenant())
      const ailing = storeOn(cql, clock)
      for (const key of ["a", "c"]) await ailing.put(scope, key, struct({ v: 1 }), PLAIN)
      losses.refuse = "insert into config_"
      await ailing.put(scope, "b", struct({ v: 1 }), PLAIN)
      // What it has left must be filed first, and is not.
      await rejects(ailing.put(scope, "c", struct({ v: 2 }), PLAIN), "STORE_UNAVAILABLE")
      const store = storeOn(whole, clock)
      assert.deepEqual((await store.get(scope, "b")).value, struct({ v: 1 }))
      assert.deepEqual((await store.get(scope, "b", { version: 1n })).value, struct({ v: 1 }))
      assert.equal((await store.listVersions(scope, "b", true, { size: 5 })).items.length, 1)
      const keys = async () => (await store.list(scope, "", true, { size: 5 })).items.map(({ key }) => key)
      assert.deepEqual(await keys(), ["a", "b", "c"])
      assert.equal(await store.lastSequence(scope), 3n)
      const live = await store.snapshot(scope, { prefix: "" }, 3n, undefined, 5)
      assert.deepEqual(
        live.map(({ key }) => key),
        ["a", "b", "c"],
      )
      await rejects(store.put(scope, "b", struct({}), { ...PLAIN, ifVersion: 0n }), "REVISION_MISMATCH")
      assert.equal((await store.put(scope, "b", struct({}), { ...PLAIN, ifVersion: 1n })).version, 2n)
      assert.deepEqual(await keys(), ["a", "b", "c"])
    })
  })
}

function owing(cluster: () => Promise<Cluster>): void {
  describe("the audit record of a configuration change", () => {
    it("is there with the change, in the change's words", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const store = storeOn(cql, clock)
      const scope = { ...systemScope(freshTenant()), actor: "key:ada" }
      await store.put(scope, "k", struct({}), PLAIN)
      await store.delete(scope, "k", PLAIN)
      await store.rollback(scope, "k", 1n, PLAIN)
      await rejects(store.put(scope, "k", struct({}), { ...PLAIN, ifVersion: 9n }), "REVISION_MISMATCH")
      const records = await queryAll(createCassandraAuditStore({ cql, clock }), scope)
      assert.deepEqual(
        records.map(({ action }) => action),
        ["RollbackConfig", "DeleteConfig", "PutConfig"],
      )
      assert.deepEqual(
        records.map(({ actor, resourceType, resourceId, outcome }) => [
          actor,
          resourceType,
          resourceId,
          outcome,
        ]),
        records.map(() => ["key:ada", "config", "k", "success"]),
      )
    })

    it("is made up for, once, where a daemon died before it: by the next change or by upkeep, however late", async () => {
      const whole = await cluster()
      const clock = heldClock()
      const { cql, losses } = lossyCluster(whole)
      const audit = createCassandraAuditStore({ cql: whole, clock })
      const dying = createCassandraConfigStore({
        cql,
        clock,
        audit: createCassandraAuditStore({ cql, clock }),
      })
      const scopes = [systemScope(freshTenant()), systemScope(freshTenant())] as const
      for (const scope of scopes) await dying.put(scope, "a", struct({}), PLAIN)
      // The record is written, and filed nowhere; the daemon knows nothing of it.
      losses.refuse = "insert into config_heads"
      for (const scope of scopes) await dying.put(scope, "b", struct({}), PLAIN)
      const actions = async (scope: CallScope) =>
        (await queryAll(audit, scope)).map(({ resourceId }) => resourceId).toSorted()
      const store = createCassandraConfigStore({ cql: whole, clock, audit })
      clock.advance(72 * 3_600_000)
      await store.put(scopes[0], "c", struct({}), PLAIN)
      assert.deepEqual(await actions(scopes[0]), ["a", "b", "c"])
      assert.ok((await store.repair(systemScope())) >= 1)
      assert.equal(await store.repair(systemScope()), 0)
      assert.deepEqual(await actions(scopes[1]), ["a", "b"])
    })
  })

  describe("whoever wants to know of configuration changes", () => {
    it("is told of each at least once, also of one that it could not be told of at first", async () => {
      const cql = await cluster()
      const clock = heldClock()
      const told: string[] = []
      let away = false
      const changed = async ({ tenant }: CallScope, keys: readonly string[]) => {
        if (away) throw new DomainError("STORE_UNAVAILABLE", "away")
        told.push(...keys.map((key) => `${tenant}/${key}`))
      }
      const audit = createCassandraAuditStore({ cql, clock })
      const store = createCassandraConfigStore({ cql, clock, audit, changed })
      const scope = systemScope(freshTenant())
      await store.put(scope, "a", struct({}), PLAIN)
      assert.deepEqual(told, [`${scope.tenant}/a`])
      away = true
      assert.equal((await store.delete(scope, "a", PLAIN)).version, 2n)
      await rejects(store.get(scope, "a"), "NOT_FOUND")
      away = false
      assert.equal(await store.repair(scope), 1)
      assert.deepEqual(told, [`${scope.tenant}/a`, `${scope.tenant}/a`])
      assert.equal(await store.repair(scope), 0)
    })
  })
}

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const cluster = async (): Promise<Cluster> => {
    opened ??= testCassandra()
    return (await opened).session
  }
  configContract(async (): Promise<ConfigHarness> => {
    const clock = heldClock()
    return { configs: storeOn(await cluster(), clock), freshTenant, clock }
  })
  daemons(cluster)
  segments(cluster)
  badLine(cluster)
  owing(cluster)
})
