/** Flows over several stores: agents with what they need, the end of tenants and of subjects. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { deleteTenantSaga } from "../../src/domain/control/delete-tenant.ts"
import type { AgentProvision } from "../../src/domain/control/provision-agent.ts"
import { appendBatch } from "../../src/domain/event/append-events.ts"
import { DEFAULT_SESSION_TTL_MS } from "../../src/domain/event/session-model.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import type { CollectionDraft } from "../../src/domain/memory/model.ts"
import { ALL_PARTS } from "../../src/domain/memory/model.ts"
import { isOver, type Saga } from "../../src/domain/saga/model.ts"
import { sweepIdempotency } from "../../src/stores/postgres/index.ts"
import { AGENT, rejects, TENANT, USER, withRequestId } from "../contract/control-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"
import { controlFlows } from "../support/control-flows.ts"
import { until } from "../support/until.ts"

const COLLECTION: CollectionDraft = {
  id: "agent-memory",
  description: "",
  labels: {},
  dimension: 4,
  metric: "COSINE",
  quantization: "NONE",
  index: { kind: "FLAT" },
  embedder: "",
  defaultTtlMs: undefined,
}

const event = (type: string) => ({
  eventId: "",
  type,
  contentType: "",
  correlationId: "",
  causationId: "",
  traceParent: "",
})

onSqlEngines((open) => {
  describe("flows", () => {
    let world: ReturnType<typeof controlFlows>
    let scope: CallScope
    let clock: ReturnType<typeof heldClock>
    let engine: Awaited<ReturnType<typeof open>>
    before(async () => {
      clock = heldClock()
      engine = await open()
      world = controlFlows(engine, clock)
      scope = systemScope(freshTenant())
      await world.tenants.create(systemScope(), scope.tenant, TENANT)
      await world.tenants.ensure(systemScope(), DEFAULT_TENANT)
    })

    const provision = (id: string, change: Partial<AgentProvision> = {}): AgentProvision => ({
      collection: { ...COLLECTION, id: `memory-${id}` },
      stream: true,
      roleIds: [],
      ...change,
    })

    it("give an agent all that it is to have", async () => {
      await world.roles.create(scope, "writer", {
        displayName: "",
        description: "",
        permissions: ["doc:write"],
      })
      const request = withRequestId(scope, "ControlService/CreateAgent", "make-a1", 1)
      const wanted = provision("a1", { roleIds: ["writer"] })
      const made = await world.flows.createAgent(request, "a1", AGENT, wanted)
      assert.equal(made.pending, false)
      assert.equal(made.agent?.id, "a1")
      assert.equal((await world.memory.getCollection(scope, "memory-a1")).dimension, 4)
      assert.equal((await world.events.store.getStream(scope, "agent-a1")).head, 1n)
      const grants = await world.roles.grants(scope, [{ kind: "agent", id: "a1" }])
      assert.equal(grants.length, 1)
      const again = await world.flows.createAgent(request, "another-id", AGENT, wanted)
      assert.deepEqual([again.sagaId, again.agent?.id], [made.sagaId, "a1"])
    })

    it("leave nothing of an agent where a part of it is refused", async () => {
      await rejects(
        world.flows.createAgent(scope, "a2", AGENT, provision("a2", { roleIds: ["no-such-role"] })),
        "NOT_FOUND",
      )
      await rejects(world.agents.get(scope, "a2"), "NOT_FOUND")
      await world.events.append(scope, appendBatch("agent-a3", { kind: "any" }, [event("early")]))
      await rejects(world.flows.createAgent(scope, "a3", AGENT, provision("a3")), "REVISION_MISMATCH")
      await rejects(world.agents.get(scope, "a3"), "NOT_FOUND")
      await rejects(world.memory.getCollection(scope, "memory-a3"), "NOT_FOUND")
      const kept = await world.agents.create(scope, "a4", AGENT)
      await rejects(world.flows.createAgent(scope, "a4", AGENT, provision("a4")), "ALREADY_EXISTS")
      assert.deepEqual(await world.agents.get(scope, "a4"), kept)
    })

    it("do not pass another caller's agent off as the one that was asked for", async () => {
      const names = ["one", "two"]
      const results = await Promise.allSettled(
        names.map((displayName) =>
          world.flows.createAgent(scope, "a5", { ...AGENT, displayName }, provision("a5")),
        ),
      )
      const made = results.findIndex(({ status }) => status === "fulfilled")
      const other = results[1 - made]
      assert.ok(other?.status === "rejected")
      await rejects(Promise.reject(other.reason), "ALREADY_EXISTS")
      assert.equal((await world.agents.get(scope, "a5")).displayName, names[made])
    })

    it("finish an agent although the store has forgotten that it made it", async () => {
      const create = world.agents.create.bind(world.agents)
      world.agents.create = async (...args) => {
        await create(...args)
        throw new DomainError("OUTCOME_UNKNOWN", "the answer is lost")
      }
      const begun = await world.flows.createAgent(scope, "a6", AGENT, provision("a6"))
      world.agents.create = create
      assert.deepEqual([begun.pending, begun.agent], [true, undefined])
      clock.advance(2 * 86_400_000)
      await sweepIdempotency(engine.database, clock.now(), 10_000)
      await until("the saga is over", async () => {
        await world.flows.work(systemScope())
        return isOver(await world.flows.get(scope, begun.sagaId, false))
      })
      assert.equal((await world.flows.get(scope, begun.sagaId, false)).state, "done")
      assert.equal((await world.agents.get(scope, "a6")).id, "a6")
    })

    it("erase a subject from every plane and certify it", async () => {
      await world.users.create(scope, "ada", USER)
      await world.users.create(scope, "bob", USER)
      const draft = {
        title: "",
        metadata: {},
        state: "{}",
        agentId: "x",
        expiry: { kind: "ttl", ttlMs: DEFAULT_SESSION_TTL_MS },
      } as const
      await world.sessions.create(scope, { ...draft, sessionId: "s-ada", userId: "ada" })
      await world.sessions.create(scope, { ...draft, sessionId: "s-bob", userId: "bob" })
      const collection = await world.memory.createCollection(scope, { ...COLLECTION, id: "notes" })
      const record = (id: string, user: string) => ({
        id,
        text: id,
        vector: new Float32Array([1, 0, 0, 0]),
        metadata: { user_id: user },
        expireTimeMs: undefined,
        ifRevisionMatch: undefined,
      })
      await world.memory.upsert(scope, collection, [record("r-ada", "ada"), record("r-bob", "bob")])
      await world.events.append(scope, appendBatch("user-ada", { kind: "any" }, [event("seen")]))
      const { certificate, pending } = await world.flows.eraseSubject(scope, { kind: "user", id: "ada" })
      assert.equal(pending, false)
      assert.ok(certificate !== undefined)
      const counts = Object.fromEntries(certificate.removals.map(({ what, count }) => [what, count]))
      assert.equal(counts.users, 1)
      assert.equal(counts.sessions, 1)
      assert.equal(counts.records, 1)
      assert.equal(counts.streams, 1)
      assert.equal(certificate.remaining, 0)
      // Not by chance within a digest.
      assert.ok(!/\bada\b/.test(JSON.stringify(certificate)))
      await rejects(world.users.get(scope, "ada"), "NOT_FOUND")
      await rejects(world.sessions.get(scope, "s-ada"), "NOT_FOUND")
      assert.equal((await world.sessions.get(scope, "s-bob")).userId, "bob")
      const left = await world.memory.get(scope, collection, ["r-ada", "r-bob"], ALL_PARTS)
      assert.deepEqual(
        left.map(({ id }) => id),
        ["r-bob"],
      )
      const audited = await world.audit.query(scope, { action: "CertifyErasure" }, { size: 10 })
      assert.equal(audited.items.length, 1)
      assert.ok(audited.items[0]?.detailsJson.includes(certificate.digest))
      const nobody = await world.flows.eraseSubject(scope, { kind: "agent", id: "never-was" })
      assert.equal(nobody.certificate?.removals.filter(({ store }) => store !== "cache").length, 0)
    })

    it("shut a tenant out once, also where nobody kept that it was done", async () => {
      const platform = systemScope()
      const id = freshTenant()
      const { revision } = await world.tenants.create(platform, id, TENANT)
      const [suspend] = deleteTenantSaga({ ...world, clock, erasers: [] }).steps
      const input = { ifRevision: revision.toString() }
      const saga = { id: `end-${id}`, subject: id, input, steps: [] } as unknown as Saga
      const context = { saga, opId: `end-${id}/suspend`, result: () => ({}) }
      for (let run = 1; run <= 2; run++) await suspend?.run(platform, context)
      const { status, revision: now } = await world.tenants.get(platform, id)
      assert.deepEqual([status, now], ["SUSPENDED", revision + 1n])
    })

    it("end a tenant that they have shut out, although the store has forgotten that they did", async () => {
      const platform = systemScope()
      const id = freshTenant()
      const { revision } = await world.tenants.create(platform, id, TENANT)
      const update = world.tenants.update.bind(world.tenants)
      world.tenants.update = async (...args) => {
        await update(...args)
        throw new DomainError("OUTCOME_UNKNOWN", "the answer is lost")
      }
      const begun = await world.flows.deleteTenant(platform, id, true, revision)
      world.tenants.update = update
      assert.equal(begun.pending, true)
      assert.equal((await world.tenants.get(platform, id)).status, "SUSPENDED")
      clock.advance(2 * 86_400_000)
      await sweepIdempotency(engine.database, clock.now(), 10_000)
      await until("the saga is over", async () => {
        await world.flows.work(systemScope())
        return isOver(await world.flows.get(platform, begun.sagaId, false))
      })
      assert.equal((await world.flows.get(platform, begun.sagaId, false)).state, "done")
      await rejects(world.tenants.get(platform, id), "NOT_FOUND")
    })

    it("keep a tenant that others have changed meanwhile", async () => {
      const platform = systemScope()
      const id = freshTenant()
      const { revision } = await world.tenants.create(platform, id, TENANT)
      const update = world.tenants.update.bind(world.tenants)
      world.tenants.update = async () => {
        throw new DomainError("STORE_UNAVAILABLE", "the store is away")
      }
      const begun = await world.flows.deleteTenant(platform, id, true, revision)
      world.tenants.update = update
      assert.equal(begun.pending, true)
      await world.tenants.update(platform, id, { status: "SUSPENDED" }, undefined)
      await world.tenants.update(platform, id, { displayName: "kept" }, undefined)
      clock.advance(2 * 86_400_000)
      await until("the saga is over", async () => {
        await world.flows.work(systemScope())
        return isOver(await world.flows.get(platform, begun.sagaId, false))
      })
      assert.notEqual((await world.flows.get(platform, begun.sagaId, false)).state, "done")
      assert.equal((await world.tenants.get(platform, id)).displayName, "kept")
    })

    it("end a tenant in every store, with a certificate, and refuse to where it holds anything", async () => {
      const platform = systemScope()
      const id: TenantId = freshTenant()
      const theirs = systemScope(id)
      const { revision } = await world.tenants.create(platform, id, TENANT)
      await world.users.create(theirs, "ada", USER)
      const hers = withRequestId(theirs, "ControlService/CreateUser", "make-eve", 1)
      await world.users.create(hers, "eve", USER)
      await world.events.append(theirs, appendBatch("s", { kind: "any" }, [event("e")]))
      await rejects(world.flows.deleteTenant(platform, id, false, undefined), "FAILED_PRECONDITION")
      await rejects(world.flows.deleteTenant(platform, id, true, revision + 1n), "REVISION_MISMATCH")
      assert.equal((await world.tenants.get(platform, id)).status, "ACTIVE")
      await rejects(
        world.flows.deleteTenant(platform, DEFAULT_TENANT, true, undefined),
        "FAILED_PRECONDITION",
      )
      await rejects(world.flows.deleteTenant(platform, freshTenant(), true, undefined), "NOT_FOUND")
      const request = withRequestId(platform, "ControlService/DeleteTenant", `end-${id}`, 1)
      const ended = await world.flows.deleteTenant(request, id, true, revision)
      assert.equal(ended.pending, false)
      assert.ok(ended.deleted >= 2n)
      assert.ok(ended.certificate?.removals.some(({ what }) => what === "users"))
      await rejects(world.tenants.get(platform, id), "NOT_FOUND")
      assert.equal(await world.tenants.status(platform, id), undefined)
      const audited = await world.audit.query(theirs, { action: "CertifyErasure" }, { size: 10 })
      assert.equal(audited.items.length, 1)
      const again = await world.flows.deleteTenant(request, id, true, revision)
      assert.deepEqual(again, ended)
      // A kept answer holds data of the tenant, and to another one of the same name it would be a lie.
      await world.tenants.create(platform, id, TENANT)
      await rejects(world.users.get(theirs, "eve"), "NOT_FOUND")
      await world.users.create(hers, "eve", USER)
      assert.equal((await world.users.get(theirs, "eve")).id, "eve")
      assert.equal(
        (await world.audit.query(theirs, { action: "CertifyErasure" }, { size: 10 })).items.length,
        1,
      )
      const empty = freshTenant()
      await world.tenants.create(platform, empty, TENANT)
      assert.equal((await world.flows.deleteTenant(platform, empty, false, undefined)).deleted, 0n)
    })
  })
})
