/** Tenants, users, agents and roles, over any store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { checkPermissions, listPermissions } from "../../src/domain/control/check-permissions.ts"
import type { Subject } from "../../src/domain/control/model.ts"
import { createControlSignals } from "../../src/domain/control/signals.ts"
import { createTenantDirectory } from "../../src/domain/control/tenant-directory.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  AGENT,
  type ControlHarness,
  drain,
  newKey,
  rejects,
  TENANT,
  USER,
  withRequestId,
} from "./control-support.ts"

const SECRET = { hash: new Uint8Array(32).fill(7), nonce: new Uint8Array(32) }

/** Registers the suite. */
export function controlContract(make: () => Promise<ControlHarness>): void {
  describe("control: resources", () => resources(make))
  describe("control: roles", () => roles(make))
  describe("control: tenants", () => tenants(make))
}

function resources(make: () => Promise<ControlHarness>): void {
  let harness: ControlHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
  })

  it("keeps a user as given, and refuses a second one with the id", async () => {
    const fields = { ...USER, displayName: "Ада", email: "a@example.com", labels: { team: "x" } }
    const created = await harness.users.create(scope, "u", fields)
    assert.equal(created.revision, 1n)
    assert.deepEqual(await harness.users.get(scope, "u"), created)
    assert.deepEqual({ ...created, ...fields }, created)
    await rejects(harness.users.create(scope, "u", USER), "ALREADY_EXISTS")
  })

  it("compares ids byte for byte", async () => {
    for (const id of ["Case", "case", "cäse", "ca\u0308se", "c' or ''='"]) {
      await harness.users.create(scope, id, { ...USER, displayName: id })
    }
    for (const id of ["Case", "case", "cäse", "ca\u0308se", "c' or ''='"]) {
      assert.equal((await harness.users.get(scope, id)).displayName, id)
    }
    await rejects(harness.users.get(scope, "CASE"), "NOT_FOUND")
  })

  it("changes only what is given, and only at the revision", async () => {
    await harness.agents.create(scope, "a", {
      ...AGENT,
      displayName: "one",
      metadata: { model: "m", n: [1, null] },
    })
    harness.clock.advance(1_000)
    const updated = await harness.agents.update(scope, "a", { displayName: "two" }, 1n)
    assert.equal(updated.revision, 2n)
    assert.equal(updated.displayName, "two")
    assert.deepEqual(updated.metadata, { model: "m", n: [1, null] })
    assert.equal(updated.updateTime, updated.createTime + 1_000)
    const error = await rejects(
      harness.agents.update(scope, "a", { displayName: "three" }, 1n),
      "REVISION_MISMATCH",
    )
    assert.equal(error.metadata.actual, "2")
    await rejects(harness.agents.update(scope, "none", { displayName: "x" }), "NOT_FOUND")
  })

  it("lets exactly one of many writers at one revision win", async () => {
    await harness.users.create(scope, "raced", USER)
    const writes = Array.from({ length: 20 }, (_, at) =>
      harness.users.update(scope, "raced", { displayName: String(at) }, 1n),
    )
    const outcomes = await Promise.allSettled(writes)
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1)
    assert.equal((await harness.users.get(scope, "raced")).revision, 2n)
  })

  it("lists by id with a filter, page by page, while rows come and go", async () => {
    const own = systemScope(harness.freshTenant())
    for (let at = 0; at < 9; at++) {
      await harness.users.create(own, `u${at}`, {
        ...USER,
        labels: { parity: at % 2 === 0 ? "even" : "odd" },
      })
    }
    const filter = parseFilter('labels.parity = "even"', { labels: { type: "json" } })
    const even = await drain((page) => harness.users.list(own, filter, page), 2)
    assert.deepEqual(
      even.map(({ id }) => id),
      ["u0", "u2", "u4", "u6", "u8"],
    )
    const first = await harness.users.list(own, undefined, { size: 3 })
    await harness.users.delete(own, "u2")
    await harness.users.create(own, "u00", USER)
    const rest = await drain(
      (page) => harness.users.list(own, undefined, { ...page, cursor: page.cursor ?? first.next }),
      4,
    )
    assert.deepEqual(
      rest.map(({ id }) => id),
      ["u3", "u4", "u5", "u6", "u7", "u8"],
    )
  })

  it("shows no tenant another's", async () => {
    const [mine, theirs] = [systemScope(harness.freshTenant()), systemScope(harness.freshTenant())]
    await harness.users.create(mine, "same", { ...USER, displayName: "mine" })
    await harness.users.create(theirs, "same", { ...USER, displayName: "theirs" })
    await harness.users.create(theirs, "only", USER)
    assert.equal((await harness.users.get(mine, "same")).displayName, "mine")
    await rejects(harness.users.get(mine, "only"), "NOT_FOUND")
    await rejects(harness.users.update(mine, "only", { displayName: "x" }), "NOT_FOUND")
    await rejects(harness.users.delete(mine, "only"), "NOT_FOUND")
    assert.deepEqual((await harness.users.list(mine, undefined, { size: 10 })).items.length, 1)
  })

  it("answers a repeated request as before, and refuses the id for another", async () => {
    const first = withRequestId(scope, "ControlService/CreateUser", "r1", 1)
    const created = await harness.users.create(first, "replayed", USER)
    await harness.users.update(scope, "replayed", { displayName: "later" })
    assert.deepEqual(await harness.users.create(first, "replayed", USER), created)
    const other = withRequestId(scope, "ControlService/CreateUser", "r1", 2)
    await rejects(harness.users.create(other, "other", USER), "REQUEST_ID_REUSED")
    await rejects(harness.users.get(scope, "other"), "NOT_FOUND")
  })

  it("wants the owner of an agent to exist, and drops him with the user", async () => {
    await rejects(harness.agents.create(scope, "owned", { ...AGENT, userId: "nobody" }), "NOT_FOUND")
    await harness.users.create(scope, "owner", USER)
    await harness.agents.create(scope, "owned", { ...AGENT, userId: "owner" })
    await rejects(harness.agents.update(scope, "owned", { userId: "nobody" }), "NOT_FOUND")
    await harness.keys.create(scope, newKey("ownerkey", { userId: "owner" }), SECRET)
    await harness.users.delete(scope, "owner", 1n)
    assert.equal((await harness.agents.get(scope, "owned")).userId, "")
    assert.notEqual((await harness.keys.get(scope, "ownerkey", false)).revokeTime, undefined)
  })

  it("leaves an audit record for each change and none for a refused one", async () => {
    const own = systemScope(harness.freshTenant())
    await harness.users.create(own, "u", USER)
    await rejects(harness.users.create(own, "u", USER), "ALREADY_EXISTS")
    await harness.users.update(own, "u", { disabled: true })
    await rejects(harness.users.delete(own, "u", 1n), "REVISION_MISMATCH")
    await harness.users.delete(own, "u")
    assert.deepEqual(await harness.audited(own.tenant), ["CreateUser", "UpdateUser", "DeleteUser"])
  })

  it("refuses text that cannot be kept as it is, and a call that is over", async () => {
    await rejects(harness.agents.create(scope, "nul", { ...AGENT, metadata: { a: "\0" } }), "INVALID_FIELD")
    const late = { ...scope, deadlineMs: Date.now() - 1 }
    await rejects(harness.users.create(late, "late", USER), "DEADLINE_EXCEEDED")
    const gone = { ...scope, signal: AbortSignal.abort() }
    await rejects(harness.users.create(gone, "gone", USER), "CANCELLED")
    await rejects(harness.users.get(scope, "late"), "NOT_FOUND")
  })
}

function roles(make: () => Promise<ControlHarness>): void {
  const user: Subject = { kind: "user", id: "u" }
  const agent: Subject = { kind: "agent", id: "a" }
  const key: Subject = { kind: "key", id: "k" }
  let harness: ControlHarness
  let scope: CallScope
  const may = async (subject: Subject, permission: string, resource = ""): Promise<boolean> => {
    const [decision] = await checkPermissions(harness.roles, scope, [{ subject, permission, resource }])
    return decision?.allowed === true
  }
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
    await harness.users.create(scope, "u", USER)
    await harness.agents.create(scope, "a", AGENT)
    await harness.keys.create(scope, newKey("k", { userId: "u", agentId: "a" }), SECRET)
    const fields = { displayName: "", description: "" }
    await harness.roles.create(scope, "reader", { ...fields, permissions: ["doc:read", "img:*"] })
    await harness.roles.create(scope, "writer", { ...fields, permissions: ["doc:write"] })
  })

  it("wants role and subject to exist", async () => {
    await rejects(harness.roles.assign(scope, "none", user, ""), "NOT_FOUND")
    await rejects(harness.roles.assign(scope, "reader", { kind: "user", id: "none" }, ""), "NOT_FOUND")
    await rejects(harness.roles.assign(scope, "reader", { kind: "key", id: "none" }, ""), "NOT_FOUND")
    await rejects(harness.roles.revoke(scope, "reader", user, ""), "NOT_FOUND")
  })

  it("gives a role once, however often it is assigned", async () => {
    const first = await harness.roles.assign(scope, "reader", user, "")
    harness.clock.advance(1_000)
    assert.deepEqual(await harness.roles.assign(scope, "reader", user, ""), first)
    const listed = await harness.roles.listAssignments(scope, { roleId: "reader" }, { size: 10 })
    assert.deepEqual(listed.items, [first])
  })

  it("lets a key act with what its user and agent have, and nobody else", async () => {
    await harness.roles.assign(scope, "writer", agent, "projects/1/*")
    assert.equal(await may(user, "doc:read"), true)
    assert.equal(await may(agent, "doc:read"), false)
    assert.equal(await may(key, "doc:read", "anything"), true)
    assert.equal(await may(key, "doc:write", "projects/1/docs/2"), true)
    assert.equal(await may(key, "doc:write"), false)
    assert.equal(await may(user, "doc:write", "projects/1/docs/2"), false)
  })

  it("lists what a key has with where it comes from, page by page", async () => {
    const grants = await drain((page) => listPermissions(harness.roles, scope, key, page), 2)
    assert.deepEqual(
      grants.map(({ permission, resource, holder }) => [permission, resource, holder.kind]),
      [
        ["doc:read", "", "user"],
        ["doc:write", "projects/1/*", "agent"],
        ["img:*", "", "user"],
      ],
    )
    await rejects(
      listPermissions(harness.roles, scope, { kind: "user", id: "none" }, { size: 1 }),
      "NOT_FOUND",
    )
  })

  it("denies the disabled, the revoked and the unknown, and says so", async () => {
    await harness.users.update(scope, "u", { disabled: true })
    const ask = { permission: "doc:read", resource: "" }
    const unknown: Subject = { kind: "user", id: "none" }
    const decisions = await checkPermissions(harness.roles, scope, [
      { ...ask, subject: user },
      { ...ask, subject: unknown },
      { ...ask, subject: key },
      { ...ask, subject: agent },
    ])
    assert.deepEqual(
      decisions.map((decision) => (decision.allowed ? "" : decision.why)),
      ["subject-disabled", "unknown-subject", "subject-disabled", "no-grant"],
    )
    await harness.users.update(scope, "u", { disabled: false })
    assert.equal(await may(key, "doc:read"), true)
    await harness.keys.revoke(scope, "k", false)
    assert.equal(await may(key, "doc:read"), false)
  })

  it("follows a change of the role at once, and takes it away with the role", async () => {
    await harness.roles.update(scope, "reader", { permissions: ["img:*"] }, 1n)
    assert.equal(await may(user, "doc:read"), false)
    assert.equal(await may(user, "img:delete"), true)
    await harness.roles.delete(scope, "reader", 2n)
    assert.equal(await may(user, "img:delete"), false)
    const left = await harness.roles.listAssignments(scope, {}, { size: 10 })
    assert.deepEqual(
      left.items.map(({ roleId }) => roleId),
      ["writer"],
    )
  })

  it("has roles of one tenant mean nothing in another", async () => {
    const other = systemScope(harness.freshTenant())
    await harness.users.create(other, "u", USER)
    const [decision] = await checkPermissions(harness.roles, other, [
      { subject: user, permission: "doc:write", resource: "" },
    ])
    assert.equal(decision?.allowed, false)
    await rejects(harness.roles.assign(other, "writer", user, ""), "NOT_FOUND")
  })
}

function tenants(make: () => Promise<ControlHarness>): void {
  let harness: ControlHarness
  const platform = systemScope(DEFAULT_TENANT)
  before(async () => {
    harness = await make()
  })

  it("keeps a tenant as given, with limits beyond a double", async () => {
    const id = harness.freshTenant()
    const fields = { ...TENANT, displayName: "Acme", plan: "pro", limits: { calls: 2n ** 62n + 1n } }
    const created = await harness.tenants.create(platform, id, fields)
    assert.deepEqual(await harness.tenants.get(platform, id), created)
    assert.equal(created.limits.calls, 2n ** 62n + 1n)
    await rejects(harness.tenants.create(platform, id, TENANT), "ALREADY_EXISTS")
    assert.deepEqual(await harness.audited(id), ["CreateTenant"])
    const filter = parseFilter(`tenant_id = "${id}"`, { tenant_id: { type: "string" } })
    assert.deepEqual((await harness.tenants.list(platform, filter, { size: 5 })).items, [created])
  })

  it("deletes an empty tenant, and a full one only by force and entirely", async () => {
    const [full, neighbour] = [harness.freshTenant(), harness.freshTenant()]
    for (const id of [full, neighbour]) {
      await harness.tenants.create(platform, id, TENANT)
      const scope = systemScope(id)
      await harness.users.create(scope, "u", USER)
      await harness.roles.create(scope, "r", { displayName: "", description: "", permissions: [] })
      await harness.roles.assign(scope, "r", { kind: "user", id: "u" }, "")
      await harness.configs.put(scope, "k", { kind: "struct", struct: {} }, { description: "" })
    }
    await rejects(harness.tenants.delete(platform, full, false), "FAILED_PRECONDITION")
    await rejects(harness.tenants.delete(platform, full, true, 9n), "REVISION_MISMATCH")
    assert.ok((await harness.tenants.delete(platform, full, true, 1n)) >= 5n)
    await rejects(harness.tenants.get(platform, full), "NOT_FOUND")
    await rejects(harness.users.get(systemScope(full), "u"), "NOT_FOUND")
    assert.equal((await harness.users.get(systemScope(neighbour), "u")).id, "u")
    assert.equal((await harness.audited(full)).at(-1), "DeleteTenant")
    const empty = harness.freshTenant()
    await harness.tenants.create(platform, empty, TENANT)
    assert.equal(await harness.tenants.delete(platform, empty, false), 0n)
  })

  it("always has the built-in tenant", async () => {
    await harness.tenants.ensure(platform, DEFAULT_TENANT)
    await harness.tenants.ensure(platform, DEFAULT_TENANT)
    await rejects(harness.tenants.delete(platform, DEFAULT_TENANT, true), "FAILED_PRECONDITION")
  })

  it("is told apart by the directory, from memory until something changes", async () => {
    const id = harness.freshTenant()
    const signals = createControlSignals()
    const directory = createTenantDirectory({ tenants: harness.tenants, signals, clock: harness.clock })
    assert.equal(await directory.exists(id), false)
    assert.equal(directory.exists(id), false)
    await harness.tenants.create(platform, id, TENANT)
    assert.equal(directory.exists(id), false)
    harness.clock.advance(1_001)
    assert.equal(await directory.exists(id), true)
    assert.equal(directory.exists(id), true)
    await harness.tenants.update(platform, id, { status: "SUSPENDED" })
    signals.identityChanged()
    await rejects(Promise.resolve(directory.require(id)), "FAILED_PRECONDITION")
    await harness.tenants.delete(platform, id, false)
    harness.clock.advance(5_001)
    await rejects(Promise.resolve(directory.require(id)), "NOT_FOUND")
    directory.close()
  })

  it("are believed to be as they were for a bounded time while the store is away", async () => {
    let away = false
    const tenants: typeof harness.tenants = Object.assign(Object.create(harness.tenants), {
      status: (...args: Parameters<typeof harness.tenants.status>) => {
        if (away) throw new DomainError("STORE_UNAVAILABLE", "away", { metadata: { store: "control" } })
        return harness.tenants.status(...args)
      },
    })
    const signals = createControlSignals()
    const directory = createTenantDirectory({ tenants, signals, clock: harness.clock })
    const known = harness.freshTenant()
    const unknown = harness.freshTenant()
    await harness.tenants.create(platform, known, TENANT)
    await directory.require(known)
    away = true
    harness.clock.advance(60_000)
    assert.ok(directory.require(known) instanceof Promise)
    await directory.require(known)
    // From then on nobody waits to be told the same.
    assert.equal(directory.require(known), undefined)
    await rejects(Promise.resolve(directory.require(unknown)), "STORE_UNAVAILABLE")
    await directory.require(DEFAULT_TENANT)
    harness.clock.advance(300_001)
    await rejects(Promise.resolve(directory.require(known)), "STORE_UNAVAILABLE")
    directory.close()
  })
}
