import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { appendOutbox } from "../../src/stores/postgres/outbox-append.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { PGLITE_SKIPS } from "../contract/exceptions.ts"
import { outboxContract } from "../contract/outbox.contract.ts"
import { outboxRelayContract } from "../contract/outbox-relay.contract.ts"
import { freshTopic, opIds, outboxEntry } from "../contract/outbox-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines } from "../engines/sql-suites.ts"
import { outboxHarness } from "./outbox-harness.ts"

const scope = systemScope()

function fenceContract(open: () => Promise<SqlEngine>): void {
  describe("the fences around the outbox", () => {
    it("lets no tenant add or see another's entries", async () => {
      const { database } = await open()
      const [topic, mine, theirs] = [freshTopic(), freshTenant(), freshTenant()]
      const foreign = database.transaction(systemScope(mine), async (tx) => {
        appendOutbox(tx, [outboxEntry(topic, theirs, "k", 0)])
      })
      await assert.rejects(foreign, DomainError)
      await database.transaction(systemScope(mine), async (tx) =>
        appendOutbox(tx, [outboxEntry(topic, mine, "k", 0)]),
      )
      const count = async (tenant: typeof mine) =>
        (
          await database.query(systemScope(tenant), {
            text: "select from outbox where topic = $1",
            values: [topic],
          })
        ).count
      assert.deepEqual([await count(mine), await count(theirs)], [1, 0])
    })
  })
}

/** Transactions that overlap, which an engine with one connection has none of. */
function overlapContract(open: () => Promise<SqlEngine>): void {
  describe("overlapping transactions", () => {
    const claim = { max: 9, maxBytes: 1e6, leaseMs: 30_000 }

    it("finds an entry that is committed after later ones are done", async (t) => {
      const { database, capabilities } = await open()
      if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
      const store = createPostgresOutboxStore(database)
      const [topic, tenant] = [freshTopic(), freshTenant()]
      const go = Promise.withResolvers<void>()
      const begun = Promise.withResolvers<void>()
      const slow = database.transaction(systemScope(tenant), async (tx) => {
        await tx.query(insertNow(topic, tenant, "slow"))
        begun.resolve()
        await go.promise
      })
      await begun.promise
      await database.transaction(systemScope(tenant), async (tx) =>
        appendOutbox(tx, [outboxEntry(topic, tenant, "fast", 1)]),
      )
      const first = await store.claim(scope, { topic, ...claim })
      assert.deepEqual(opIds(first.entries), ["fast:1"])
      await store.settle(scope, first, { done: first.entries.map(({ id }) => id) })
      go.resolve()
      await slow
      assert.deepEqual(opIds((await store.claim(scope, { topic, ...claim })).entries), ["slow"])
    })

    it("orders writers by the lock they held, even where their transaction ids are the other way round", async (t) => {
      const { database, capabilities } = await open()
      if (capabilities.concurrency === 1) return t.skip(PGLITE_SKIPS.overlap)
      const store = createPostgresOutboxStore(database)
      const [topic, tenant] = [freshTopic(), freshTenant()]
      const early = Promise.withResolvers<void>()
      const go = Promise.withResolvers<void>()
      const lock = { text: "select pg_advisory_xact_lock(hashtextextended($1::text, 1))", values: [topic] }
      // Has its transaction id first and the lock second.
      const second = database.transaction(systemScope(tenant), async (tx) => {
        await tx.query({ text: "select pg_current_xact_id()" })
        early.resolve()
        await go.promise
        await tx.query(lock)
        appendOutbox(tx, [outboxEntry(topic, tenant, "k", 2)])
      })
      await early.promise
      await database.transaction(systemScope(tenant), async (tx) => {
        await tx.query(lock)
        appendOutbox(tx, [outboxEntry(topic, tenant, "k", 1)])
      })
      go.resolve()
      await second
      assert.deepEqual(opIds((await store.claim(scope, { topic, ...claim })).entries), ["k:1", "k:2"])
    })
  })
}

function insertNow(topic: string, tenant: string, opId: string) {
  return {
    text: `insert into outbox (topic, tenant, key, op_id, payload, trace_parent) values ($1, $2, 'k', $3, '', '')`,
    values: [topic, tenant, opId],
  }
}

onSqlEngines((open) => {
  const make = async () => outboxHarness((await open()).database)
  outboxContract(make)
  outboxRelayContract(make)
  fenceContract(open)
  overlapContract(open)
})
