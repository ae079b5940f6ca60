/** ControlService and BillingService by gRPC, from the wire to SQL. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect"
import { createGrpcTransport } from "@connectrpc/connect-node"
import { createTokenMinter } from "../../src/domain/control/api-key-token.ts"
import { createControlSignals } from "../../src/domain/control/signals.ts"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { ErrorInfoSchema } from "../../src/gen/google/rpc/error_details_pb.ts"
import {
  BillingService,
  BudgetPeriod,
  UsageAggregation,
  UsagePeriod,
  UsageReservationState,
} from "../../src/gen/keelplane/v1/billing_service_pb.ts"
import {
  ApiKeyCode,
  ControlService,
  PermissionDecision,
  TenantStatus,
} from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { createServer, type RpcServer } from "../../src/rpc/server.ts"
import { createBillingService } from "../../src/services/billing-service.ts"
import { createControlService } from "../../src/services/control-service.ts"
import { Pages } from "../../src/services/paging.ts"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createBudgetStore } from "../../src/stores/postgres/budget-store.ts"
import { createConfigStore } from "../../src/stores/postgres/config-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createApiKeyStore } from "../../src/stores/postgres/key-store.ts"
import { createRoleStore } from "../../src/stores/postgres/role-store.ts"
import { createTenantStore } from "../../src/stores/postgres/tenant-store.ts"
import { createUsageStore } from "../../src/stores/postgres/usage-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { embeddedDatabase } from "../engines/pglite.ts"
import { controlFlows } from "../support/control-flows.ts"

describe("control and billing services", { timeout: 120_000 }, () => {
  let engine: SqlEngine
  let server: RpcServer
  let transport: Transport
  let control: Client<typeof ControlService>
  let billing: Client<typeof BillingService>
  before(async () => {
    engine = await embeddedDatabase()
    const clock = { now: () => Date.now() }
    const deps = { database: engine.database, clock }
    const pages = new Pages(new Uint8Array(32).fill(7))
    const silent = () => {}
    const tenants = createTenantStore(deps)
    await tenants.ensure(systemScope(), DEFAULT_TENANT)
    server = createServer({
      services: [
        createControlService({
          tenants,
          users: createUserStore(deps),
          agents: createAgentStore(deps),
          keys: createApiKeyStore(deps),
          roles: createRoleStore(deps),
          configs: createConfigStore(deps),
          signals: createControlSignals(),
          minter: createTokenMinter(),
          flows: controlFlows(engine, clock).flows,
          pages,
          clock,
        }),
        createBillingService({
          usage: createUsageStore(deps),
          budgets: createBudgetStore(deps),
          pages,
          clock,
        }),
      ],
      listen: { tcp: { host: "127.0.0.1", port: 0 } },
      logger: { info: silent, warn: silent, error: silent },
    })
    const { tcp } = await server.start()
    transport = createGrpcTransport({ baseUrl: `http://127.0.0.1:${tcp?.port}` })
    control = createClient(ControlService, transport)
    billing = createClient(BillingService, transport)
  })
  after(async () => {
    await server.stop()
    await engine.close()
  })

  it("creates, changes by mask, lists and deletes users and agents", async () => {
    const { user } = await control.createUser({
      user: { userId: "ada", displayName: "Ada", labels: { a: "1" } },
    })
    assert.deepEqual([user?.userId, user?.revision, user?.labels], ["ada", 1n, { a: "1" }])
    const mask = { paths: ["email"] }
    const changed = await control.updateUser({
      user: { userId: "ada", displayName: "ignored", email: "a@b.c" },
      updateMask: mask,
      ifRevisionMatch: 1n,
    })
    assert.deepEqual(
      [changed.user?.displayName, changed.user?.email, changed.user?.revision],
      ["Ada", "a@b.c", 2n],
    )
    const cleared = await control.updateUser({ user: { userId: "ada" }, updateMask: { paths: ["*"] } })
    assert.deepEqual([cleared.user?.displayName, cleared.user?.labels], ["", {}])
    const named = await control.updateUser({ user: { userId: "ada", displayName: "Ada" } })
    assert.equal(named.user?.displayName, "Ada")
    const { agent } = await control.createAgent({
      agent: { userId: "ada", metadata: { tools: ["x", { y: null }] } },
    })
    assert.match(agent?.agentId ?? "", /^[0-9a-f-]{36}$/)
    assert.deepEqual(agent?.metadata, { tools: ["x", { y: null }] })
    for (const agentId of ["b", "c"]) await control.createAgent({ agent: { agentId, displayName: "x" } })
    const page = await control.listAgents({ pageSize: 1, filter: 'display_name = "x"' })
    const rest = await control.listAgents({
      pageSize: 1,
      filter: 'display_name = "x"',
      pageToken: page.nextPageToken,
    })
    assert.deepEqual(
      [...page.agents, ...rest.agents].map(({ agentId }) => agentId),
      ["b", "c"],
    )
    assert.equal(rest.nextPageToken, "")
    await control.deleteAgent({ agentId: "b" })
    await fails(control.getAgent({ agentId: "b" }), Code.NotFound, "NOT_FOUND")
    await fails(control.deleteUser({ userId: "ada", ifRevisionMatch: 1n }), Code.Aborted, "REVISION_MISMATCH")
  })

  it("shows a key once, verifies, rotates and revokes it", async () => {
    const request = { name: "ci", permissions: ["cache.read"], agentId: "c", requestId: "key-1" }
    const created = await control.createApiKey(request)
    const again = await control.createApiKey(request)
    assert.deepEqual(again, created)
    const { token, apiKey } = created
    assert.ok(token.startsWith(`${apiKey?.tokenPrefix}_`))
    const good = await control.verifyApiKey({ token, requiredPermissions: ["cache.read"] })
    assert.deepEqual([good.valid, good.code, good.apiKey?.name], [true, ApiKeyCode.VALID, "ci"])
    const lacking = await control.verifyApiKey({ token, requiredPermissions: ["cache.write", "doc:read"] })
    assert.deepEqual(lacking.missingPermissions, ["cache.write", "doc:read"])
    assert.equal((await control.verifyApiKey({ token: "kp_x" })).code, ApiKeyCode.NOT_FOUND)
    const apiKeyId = apiKey?.apiKeyId ?? ""
    const rotated = await control.rotateApiKey({ apiKeyId, gracePeriod: {} })
    assert.equal((await control.verifyApiKey({ token })).code, ApiKeyCode.EXPIRED)
    assert.equal((await control.verifyApiKey({ token: rotated.token })).code, ApiKeyCode.VALID)
    await control.revokeApiKey({ apiKeyId })
    assert.equal((await control.verifyApiKey({ token: rotated.token })).code, ApiKeyCode.REVOKED)
    const elapsed = await control.createApiKey({ expiration: { case: "expireTime", value: { seconds: 1n } } })
    assert.equal((await control.verifyApiKey({ token: elapsed.token })).code, ApiKeyCode.EXPIRED)
    const listed = await control.listApiKeys({ filter: 'name = "ci"' })
    assert.deepEqual(
      listed.apiKeys.map(({ apiKeyId: id }) => id),
      [apiKeyId],
    )
    const platform = await control.createApiKey({ platform: true, permissions: ["*"] })
    assert.equal(
      (await control.listApiKeys({ platform: true })).apiKeys[0]?.apiKeyId,
      platform.apiKey?.apiKeyId,
    )
  })

  it("decides by roles", async () => {
    const subject = { subject: { case: "agentId" as const, value: "c" } }
    await control.createRole({ role: { roleId: "editor", permissions: ["doc:*"] } })
    const { assignment } = await control.assignRole({ roleId: "editor", subject, resource: "team/1/*" })
    assert.deepEqual(assignment?.subject?.subject, subject.subject)
    const asked = { subject, permission: "doc:write" }
    const { results } = await control.batchCheckPermissions({
      checks: [
        { ...asked, resource: "team/1/x" },
        { ...asked, resource: "team/2/x" },
        { ...asked, subject: { subject: { case: "userId", value: "nobody" } } },
      ],
    })
    assert.deepEqual(
      results.map(({ decision }) => decision),
      [PermissionDecision.GRANTED, PermissionDecision.NO_GRANT, PermissionDecision.UNKNOWN_SUBJECT],
    )
    const { result } = await control.checkPermission({ check: { ...asked, resource: "team/1/x" } })
    assert.deepEqual([result?.allowed, result?.roleId, result?.permission], [true, "editor", "doc:*"])
    const { permissions } = await control.listPermissions({ subject })
    assert.deepEqual(
      permissions.map(({ permission, resource }) => [permission, resource]),
      [["doc:*", "team/1/*"]],
    )
    assert.equal((await control.listRoleAssignments({ subject })).assignments.length, 1)
    await control.revokeRole({ roleId: "editor", subject, resource: "team/1/*" })
    assert.deepEqual((await control.listRoleAssignments({ roleId: "editor" })).assignments, [])
  })

  it("versions configuration and watches it", async () => {
    const put = (structValue: { n: number }, ifVersion?: bigint) =>
      control.putConfig({ key: "app/x", value: { case: "structValue", value: structValue }, ifVersion })
    await put({ n: 1 }, 0n)
    await fails(put({ n: 2 }, 0n), Code.Aborted, "REVISION_MISMATCH")
    const seen: string[] = []
    for await (const { frame } of control.watchConfig({ target: { case: "prefix", value: "app/" } })) {
      if (frame.case === "config") seen.push(`${frame.value.version}${frame.value.deleted ? " gone" : ""}`)
      if (frame.case === "synced") await put({ n: 2 }, 1n)
      if (seen.length === 2) await control.deleteConfig({ key: "app/x" })
      if (seen.length === 3) break
    }
    assert.deepEqual(seen, ["1", "2", "3 gone"])
    await fails(control.getConfig({ key: "app/x" }), Code.NotFound, "NOT_FOUND")
    const back = await control.rollbackConfig({ key: "app/x", version: 2n, description: "oops" })
    assert.deepEqual(back.config?.value, { case: "structValue", value: { n: 2 } })
    const { versions } = await control.listConfigVersions({ key: "app/x", omitValues: true })
    assert.deepEqual(
      versions.map(({ version, value }) => [version, value.case]),
      [4n, 3n, 2n, 1n].map((v) => [v, undefined]),
    )
    const value = { case: "bytesValue" as const, value: Uint8Array.of(0, 255) }
    await control.putConfig({ key: "app/bin", value, contentType: "x/y", requestId: "p1" })
    const replayed = await control.putConfig({ key: "app/bin", value, contentType: "x/y", requestId: "p1" })
    assert.deepEqual(replayed.config?.value, value)
    const old = await control
      .getConfig({ key: "app/bin", at: { case: "version", value: 2n ** 64n - 1n } })
      .catch(reason)
    assert.equal(old, "NOT_FOUND")
    assert.deepEqual(
      (await control.listConfigs({ prefix: "app/" })).configs.map(({ key }) => key),
      ["app/bin", "app/x"],
    )
  })

  it("keeps tenants", async () => {
    const { tenant } = await control.createTenant({
      tenant: { tenantId: "acme", limits: { n: 2n ** 62n + 1n } },
    })
    assert.deepEqual([tenant?.status, tenant?.limits], [TenantStatus.ACTIVE, { n: 2n ** 62n + 1n }])
    const { tenant: off } = await control.updateTenant({
      tenant: { tenantId: "acme", status: TenantStatus.SUSPENDED },
    })
    assert.deepEqual([off?.status, off?.limits], [TenantStatus.SUSPENDED, { n: 2n ** 62n + 1n }])
    const { tenants } = await control.listTenants({ filter: "status = SUSPENDED" })
    assert.deepEqual(
      tenants.map(({ tenantId }) => tenantId),
      ["acme"],
    )
    assert.equal((await control.deleteTenant({ tenantId: "acme" })).deletedRowCount, 0n)
    await fails(
      control.deleteTenant({ tenantId: "default", force: true }),
      Code.FailedPrecondition,
      "FAILED_PRECONDITION",
    )
  })

  it("meters usage and holds it to a budget", async () => {
    const events = [
      {
        eventId: "1",
        meter: "tok",
        quantity: "1.50",
        dimensions: { model: "x" },
        eventTime: { seconds: 3_600n },
      },
      { eventId: "2", meter: "tok", quantity: "2", eventTime: { seconds: 7_199n } },
    ]
    assert.equal((await billing.recordUsage({ events })).recordedCount, 2)
    assert.equal((await billing.recordUsage({ events })).duplicateCount, 2)
    const groupBy = ["dimensions.model"]
    const usage = await billing.getUsage({ meter: "tok", period: UsagePeriod.HOUR, groupBy, pageSize: 1 })
    const more = await billing.getUsage({
      meter: "tok",
      period: UsagePeriod.HOUR,
      groupBy,
      pageSize: 1,
      pageToken: usage.nextPageToken,
    })
    assert.deepEqual(
      [...usage.rows, ...more.rows].map(({ value, groups, startTime, endTime }) => [
        value,
        groups["dimensions.model"],
        startTime?.seconds,
        endTime?.seconds,
      ]),
      [
        ["2", "", 3_600n, 7_200n],
        ["1.5", "x", 3_600n, 7_200n],
      ],
    )
    const budget = {
      budgetId: "b",
      meter: "tok",
      limit: "10",
      period: BudgetPeriod.TOTAL,
      thresholds: [90, 30],
    }
    await billing.setBudget({ budget, ifRevisionMatch: 0n })
    const { budget: view } = await billing.getBudget({ budgetId: "b" })
    assert.deepEqual(
      [view?.status?.used, view?.status?.remaining, view?.status?.reachedThresholds],
      ["3.5", "6.5", [30]],
    )
    const { reservation } = await billing.reserveUsage({ items: [{ meter: "tok", quantity: "6.5" }] })
    await fails(
      billing.reserveUsage({ items: [{ meter: "tok", quantity: "0.1" }] }),
      Code.ResourceExhausted,
      "BUDGET_EXCEEDED",
    )
    const reservationId = reservation?.reservationId ?? ""
    const settled = await billing.settleUsage({ reservationId, items: [{ meter: "tok", quantity: "1" }] })
    assert.equal(settled.reservation?.state, UsageReservationState.SETTLED)
    await fails(billing.releaseUsage({ reservationId }), Code.FailedPrecondition, "FAILED_PRECONDITION")
    assert.equal((await billing.listBudgets({ meter: "tok" })).budgets[0]?.status?.used, "4.5")
    await billing.deleteBudget({ budgetId: "b" })
  })

  it("refuses bad requests by field", async () => {
    const subject = { subject: { case: "userId" as const, value: "u" } }
    const event = { eventId: "x", meter: "m", quantity: "1" }
    const far = { seconds: 10n ** 15n }
    const bad = [
      control.createTenant({}),
      control.createTenant({ tenant: { tenantId: "UPPER" } }),
      control.createTenant({ tenant: { tenantId: "t", status: 9 as TenantStatus } }),
      control.createUser({ user: { userId: "a\nb" } }),
      control.createUser({ user: { labels: { "bad key": "" } } }),
      control.createAgent({ agent: { metadata: { a: "\0" } } }),
      control.updateUser({ user: { userId: "ada" } }),
      control.updateUser({ user: { userId: "ada" }, updateMask: { paths: ["revision"] } }),
      control.updateUser({ user: { displayName: "x" } }),
      control.listUsers({ pageSize: -1 }),
      control.createApiKey({ permissions: ["cache.fly"] }),
      control.createApiKey({ platform: true, userId: "ada" }),
      control.createApiKey({ expiration: { case: "expireTime", value: far } }),
      control.createApiKey({ expiration: { case: "ttl", value: { seconds: -1n } } }),
      control.createRole({ role: { roleId: "r", permissions: ["a*b:c"] } }),
      control.assignRole({ roleId: "r" }),
      control.assignRole({ roleId: "r", subject: {} }),
      control.checkPermission({ check: { subject, permission: "doc:*" } }),
      control.batchCheckPermissions({ checks: [] }),
      control.putConfig({ key: "k" }),
      control.putConfig({ key: "", value: { case: "structValue", value: {} } }),
      control.getConfig({ key: "k", at: { case: "version", value: 0n } }),
      control.getConfig({ key: "k", at: { case: "time", value: far } }),
      billing.recordUsage({}),
      billing.recordUsage({ events: [{ ...event, quantity: "-1" }] }),
      billing.recordUsage({ events: [{ ...event, quantity: "1e9" }] }),
      billing.recordUsage({ events: [{ ...event, eventTime: far }] }),
      billing.recordUsage({ events: [{ ...event, eventId: "keelplane.x" }] }),
      billing.recordUsage({ events: [event, { ...event, quantity: "2" }] }),
      billing.getUsage({ meter: "m", aggregation: UsageAggregation.UNIQUE_COUNT }),
      billing.getUsage({ meter: "m", startTime: { seconds: 2n }, endTime: { seconds: 1n } }),
      billing.getUsage({ meter: "m", groupBy: ["tenant"] }),
      billing.setBudget({ budget: { budgetId: "b", meter: "m", limit: "1" } }),
      billing.reserveUsage({
        items: [
          { meter: "m", quantity: "1" },
          { meter: "m", quantity: "1" },
        ],
      }),
      billing.reserveUsage({
        items: [{ meter: "m", quantity: "1" }],
        expiration: { case: "expireTime", value: { seconds: 250000000000n } },
      }),
    ]
    await Promise.all(bad.map((call) => fails(call, Code.InvalidArgument, "INVALID_FIELD")))
    const large = { case: "structValue" as const, value: { a: "x".repeat(1_048_576) } }
    await fails(control.putConfig({ key: "k", value: large }), Code.InvalidArgument, "LIMIT_EXCEEDED")
    await fails(control.listUsers({ filter: "nothing = 1" }), Code.InvalidArgument, "INVALID_FILTER")
    await fails(control.listUsers({ pageToken: "forged" }), Code.InvalidArgument, "INVALID_PAGE_TOKEN")
  })
})

function reason(error: unknown): string | undefined {
  assert.ok(error instanceof ConnectError)
  return error.findDetails(ErrorInfoSchema)[0]?.reason
}

async function fails(call: Promise<unknown>, code: Code, expected: Reason): Promise<void> {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError)
    assert.deepEqual([error.code, reason(error)], [code, expected], error.message)
    return true
  })
}
