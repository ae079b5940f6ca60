/** A database of the first release, with rows in every table, comes to today's schema and is read by today's adapters. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { ALL_PARTS } from "../../src/domain/memory/model.ts"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import { createBudgetStore } from "../../src/stores/postgres/budget-store.ts"
import { createConfigStore } from "../../src/stores/postgres/config-store.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import { encode } from "../../src/stores/postgres/exchange.ts"
import { assertIsolation, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresJobStore } from "../../src/stores/postgres/job-store.ts"
import { createApiKeyStore } from "../../src/stores/postgres/key-store.ts"
import { createPostgresLockStore } from "../../src/stores/postgres/lock-store.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { migrate, readMigrations } from "../../src/stores/postgres/migrate.ts"
import { createRoleStore } from "../../src/stores/postgres/role-store.ts"
import { createPostgresSessionStore } from "../../src/stores/postgres/session-store.ts"
import { createTenantStore } from "../../src/stores/postgres/tenant-store.ts"
import { createUsageStore } from "../../src/stores/postgres/usage-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { firstRelease, releasedEngines } from "./released-database.ts"
import { AT, AUDIT_DAYS, FIRST_RELEASE, RELEASED_TENANT } from "./released-rows.ts"

const scope = systemScope(RELEASED_TENANT)
const page = { size: 10 }
const AT_MS = Date.parse(AT)

for (const { name, skip, open } of releasedEngines) {
  describe(`a database of the first release on ${name}`, { skip, timeout: 600_000 }, () => {
    let engine: SqlEngine
    before(async () => {
      engine = await open()
      await firstRelease(engine)
      const applied = await engine.migrate()
      assert.ok(
        applied.some(({ version }) => version < 60),
        "a number between released ones is applied like any other",
      )
    })
    after(() => engine?.close())

    const deps = () => ({ database: engine.database, clock: systemClock, auditOutbox: undefined })
    const grouped = () => ({ clock: systemClock, concurrency: engine.capabilities.concurrency })

    it("has a row in every table that the release had, also afterwards", async () => {
      const tables = await engine.asOwner(async (session) => {
        const [found] = await session.run([
          encode({
            text: `select c.relname::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = 'keelplane' and c.relkind in ('r', 'p') and not c.relispartition order by 1`,
          }),
        ])
        const names = found?.rows.map((row) => String(row.name)) ?? []
        await session.script("select set_config('keelplane.tenant', '*', false)")
        const empty: string[] = []
        for (const table of names) {
          const [rows] = await session.run([
            encode({ text: `select 1 as one from keelplane.${table} limit 1` }),
          ])
          if (rows?.rows.length === 0) empty.push(table)
        }
        await session.script("select set_config('keelplane.tenant', '', false)")
        return empty
      })
      // Those that came later.
      assert.deepEqual(
        tables.filter((table) => table !== "partitions"),
        ["outbox", "sagas", "usage_months"],
      )
      await assertIsolation(engine.database)
    })

    it("tells who may do what, and its configuration", async () => {
      const [tenants, users, agents, roles, keys, configs] = [
        createTenantStore(deps()),
        createUserStore(deps()),
        createAgentStore(deps()),
        createRoleStore(deps()),
        createApiKeyStore(deps()),
        createConfigStore(deps()),
      ]
      const tenant = await tenants.get(scope, RELEASED_TENANT)
      assert.equal(tenant.displayName, "Acme")
      assert.equal((await users.get(scope, "u1")).createTime, AT_MS)
      assert.equal((await agents.get(scope, "a1")).disabled, true)
      assert.deepEqual((await roles.get(scope, "reader")).permissions, ["memory.read", "event.read"])
      const key = await keys.get(scope, "k1", false)
      assert.equal(key.agentId, "a1")
      assert.equal((await configs.get(scope, "limits")).version, 1n)
      await assert.rejects(configs.get(scope, "logo"), DomainError)
    })

    it("finds records by vector, word and id, and writes on", async () => {
      const memory = createMemoryStore({ ...deps(), ...grouped() })
      try {
        for (const id of ["facts", "halves"]) {
          const collection = await memory.getCollection(scope, id)
          assert.equal(collection.storageMode, "LOCAL")
          assert.equal(await memory.count(scope, collection, undefined), 5)
          const [answer] = await memory.search(scope, collection, [
            {
              filter: undefined,
              parts: ALL_PARTS,
              dense: { vector: Float32Array.of(4, 0.1, 0.1), limit: 2, exact: true, efSearch: 10 },
              keyword: { text: "word", limit: 10 },
            },
          ])
          assert.equal(answer?.dense.length, 2)
          assert.equal(answer?.keyword.length, 5)
          await memory.indexStep(scope, id, 10, true)
          const [receipt] = await memory.upsert(scope, collection, [
            {
              id: "r1",
              text: "again",
              vector: Float32Array.of(1, 2, 3),
              metadata: {},
              expireTimeMs: undefined,
              ifRevisionMatch: undefined,
            },
          ])
          assert.ok((receipt?.revision ?? 0n) > 12n)
          assert.equal(receipt?.created, false)
        }
      } finally {
        await memory.close()
      }
    })

    it("reads streams, states and the feed, and goes on with them", async () => {
      const events = createPostgresEventStore(engine.database, grouped())
      const read = (stream: string) =>
        events.readStream(scope, { stream, backwards: false, from: 1n, types: [], limit: 10 })
      assert.deepEqual(
        (await read("order-1")).events.map(({ revision }) => revision),
        [1n, 2n, 3n],
      )
      assert.deepEqual(
        (await read("order-2")).events.map(({ revision }) => revision),
        [3n, 4n],
      )
      await assert.rejects(read("gone-1"), { reason: "STREAM_DELETED" })
      assert.equal((await events.findSnapshot(scope, "order-2", "", undefined))?.state, '{"total":2}')
      const feed = await events.readFeed(scope, { types: [], after: undefined, limit: 10 })
      assert.equal(feed.events.length, 5)
      const appended = await events.append(scope, {
        stream: "order-1",
        expected: { kind: "revision", revision: 3n },
        events: [
          {
            eventId: "0190f2a0-0000-7000-8000-000000000001",
            idGiven: true,
            type: "Changed",
            contentType: "",
            correlationId: "",
            causationId: "",
            traceParent: "",
            size: 10,
          },
        ],
      })
      assert.equal(appended.lastRevision, 4n)
      const rest = await events.readFeed(scope, { types: [], after: feed.end, limit: 10 })
      assert.deepEqual(
        rest.events.map(({ event }) => event.revision),
        [4n],
      )
    })

    it("reads sessions, jobs and locks", async () => {
      const sessions = createPostgresSessionStore(engine.database, grouped())
      assert.equal((await sessions.get(scope, "s1")).state, '{"x":1.50}')
      assert.equal((await sessions.messages(scope, "s1", false, page)).items.length, 2)
      const jobs = createPostgresJobStore(engine.database, { retentionMs: new ByTenant(86_400_000) })
      assert.equal((await jobs.get(scope, "j3"))?.history.length, 1)
      const [claimed] = await jobs.claim(scope, { queues: ["mail"], workerId: "w2", max: 5, leaseMs: 60_000 })
      assert.equal(claimed?.job.id, "j1")
      const lock = await createPostgresLockStore(engine.database).get(scope, "l1")
      assert.equal(lock?.ownerId ?? "w1", "w1")
    })

    it("counts usage against budgets", async () => {
      const budgets = createBudgetStore(deps())
      const view = await budgets.get(scope, "b1")
      assert.equal(view.budget.limit, "99999999999999999999.5")
      assert.equal(view.status.used, "12345678901234567890.5")
      const usage = createUsageStore(deps())
      await usage.close()
    })

    it("has an audit log that holds, and goes on with it", async () => {
      const audit = createPostgresAuditStore(engine.database, grouped())
      const verdict = await verifyAudit(scope, audit, { maxDays: 10 })
      assert.equal(verdict.firstBreak, undefined)
      assert.deepEqual(verdict.days.map(({ day }) => day).slice(0, 2), [...AUDIT_DAYS])
      await audit.record(scope, [{ actor: "a", action: "b", resourceType: "c", outcome: "success" }])
      const after = await verifyAudit(scope, audit, { maxDays: 10 })
      assert.equal(after.firstBreak, undefined)
      assert.equal(after.recordsChecked, verdict.recordsChecked + 1n)
    })

    it("is refused by the release that it came from", async () => {
      const files = (await readMigrations()).filter(({ version }) => FIRST_RELEASE[version] !== undefined)
      await assert.rejects(
        engine.asOwner((session) => migrate(session, files)),
        (error: unknown) =>
          error instanceof DomainError && error.reason === "SCHEMA_MISMATCH" && /newer/.test(error.message),
      )
    })
  })
}
