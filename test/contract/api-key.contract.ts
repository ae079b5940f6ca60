/** API keys, over any store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { inspect } from "node:util"
import { createTokenMinter } from "../../src/domain/control/api-key-token.ts"
import { createApiKeyAuthenticator } from "../../src/domain/control/authenticate-api-key.ts"
import { createApiKey, rotateApiKey } from "../../src/domain/control/issue-api-key.ts"
import type { NewApiKey } from "../../src/domain/control/ports.ts"
import { createControlSignals } from "../../src/domain/control/signals.ts"
import { type KeyVerdict, verifyApiKey } from "../../src/domain/control/verify-api-key.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, PLATFORM_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  AGENT,
  type ControlHarness,
  newKey,
  rejects,
  TENANT,
  USER,
  withRequestId,
} from "./control-support.ts"

const ROOT = { platform: true, permissions: new Set(["*"]) }
const DAY_MS = 86_400_000

/** Registers the suite. */
export function apiKeyContract(make: () => Promise<ControlHarness>): void {
  describe("control: API keys", () => {
    let harness: ControlHarness
    let scope: CallScope
    const minter = createTokenMinter()
    const create = (key: Partial<NewApiKey> = {}, own: CallScope = scope) =>
      createApiKey({ keys: harness.keys, minter }, own, ROOT, newKey("", key))
    const verify = (
      token: string,
      required: readonly string[] = [],
      own: CallScope = scope,
    ): Promise<KeyVerdict> => verifyApiKey(harness, own, { token, required, resource: "" })
    const code = async (token: string, own: CallScope = scope): Promise<string> =>
      (await verify(token, [], own)).code

    before(async () => {
      harness = await make()
      scope = systemScope(harness.freshTenant())
      await harness.tenants.create(scope, scope.tenant, TENANT)
      await harness.users.create(scope, "u", USER)
      await harness.agents.create(scope, "a", AGENT)
    })

    it("knows its own keys and nothing else", async () => {
      const { key, token } = await create({ name: "ci" })
      assert.match(token, /^kp_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}$/)
      const verdict = await verify(token)
      assert.deepEqual(verdict, { code: "VALID", key, missing: [] })
      assert.equal(await code(""), "NOT_FOUND")
      assert.equal(await code(`${token}0`), "NOT_FOUND")
      assert.equal(await code(minter.token(key.id, minter.nonce())), "NOT_FOUND")
      assert.equal(await code(minter.token(minter.id(), minter.nonce())), "NOT_FOUND")
      assert.equal(await code(token, systemScope(harness.freshTenant())), "NOT_FOUND")
    })

    it("tells expired, revoked and disabled apart, and tells a stranger nothing", async () => {
      const expiring = await create({ expireTime: harness.clock.now() + 1_000 })
      assert.equal(await code(expiring.token), "VALID")
      harness.clock.advance(1_000)
      assert.equal(await code(expiring.token), "EXPIRED")
      const revoked = await create()
      const first = await harness.keys.revoke(scope, revoked.key.id, false)
      harness.clock.advance(1_000)
      assert.deepEqual(await harness.keys.revoke(scope, revoked.key.id, false), first)
      assert.equal(await code(revoked.token), "REVOKED")
      assert.equal(await code(minter.token(revoked.key.id, minter.nonce())), "NOT_FOUND")
      const bound = await create({ agentId: "a" })
      await harness.agents.update(scope, "a", { disabled: true })
      assert.equal(await code(bound.token), "DISABLED")
      await harness.agents.update(scope, "a", { disabled: false })
      assert.equal(await code(bound.token), "VALID")
    })

    it("names the permissions that are missing", async () => {
      await harness.roles.create(scope, "r", { displayName: "", description: "", permissions: ["doc:*"] })
      await harness.roles.assign(scope, "r", { kind: "user", id: "u" }, "")
      const { token } = await create({ userId: "u", permissions: ["cache.*", "event.read"] })
      assert.equal((await verify(token, ["doc:read", "cache.write", "event.read"])).code, "VALID")
      const verdict = await verify(token, ["memory.read", "doc:read", "img:read", "event.write"])
      assert.equal(verdict.code, "INSUFFICIENT_PERMISSIONS")
      assert.deepEqual(verdict.missing, ["memory.read", "img:read", "event.write"])
    })

    it("keeps the old secret for the grace period and not longer", async () => {
      const { key, token } = await create()
      const rotate = (graceMs: number) =>
        rotateApiKey({ keys: harness.keys, minter }, scope, ROOT, {
          id: key.id,
          platform: false,
          graceUntil: harness.clock.now() + graceMs,
        })
      const second = await rotate(1_000)
      assert.equal(second.key.id, key.id)
      assert.deepEqual([await code(token), await code(second.token)], ["VALID", "VALID"])
      harness.clock.advance(1_000)
      assert.deepEqual([await code(token), await code(second.token)], ["EXPIRED", "VALID"])
      const third = await rotate(0)
      assert.deepEqual([await code(second.token), await code(third.token)], ["EXPIRED", "VALID"])
      assert.equal(await code(token), "NOT_FOUND")
      await harness.keys.revoke(scope, key.id, false)
      await rejects(rotate(0), "FAILED_PRECONDITION")
    })

    it("shows a token again to a repeated call, but only in the process that made it", async () => {
      const request = withRequestId(scope, "ControlService/CreateApiKey", "k1", 1)
      const first = await create({ name: "once" }, request)
      assert.deepEqual(await create({ name: "once" }, request), first)
      assert.equal(await code(first.token), "VALID")
      const restarted = { keys: harness.keys, minter: createTokenMinter() }
      const later = await createApiKey(restarted, request, ROOT, newKey("", { name: "once" }))
      assert.deepEqual(later, { key: first.key, token: "" })
    })

    it("lets nobody hand on what he does not have", async () => {
      const caller = { platform: false, permissions: new Set(["control.*", "cache.read"]) }
      const issue = (key: Partial<NewApiKey>) =>
        createApiKey({ keys: harness.keys, minter }, scope, caller, newKey("", key))
      await issue({ permissions: ["cache.read", "control.*", "control.admin"] })
      for (const permission of ["cache.write", "cache.*", "*"]) {
        await rejects(issue({ permissions: [permission] }), "PERMISSION_DENIED")
      }
      await rejects(issue({ platform: true }), "PERMISSION_DENIED")
      const strong = await create({ permissions: ["*"] })
      const input = { id: strong.key.id, platform: false, graceUntil: 0 }
      await rejects(rotateApiKey({ keys: harness.keys, minter }, scope, caller, input), "PERMISSION_DENIED")
    })

    it("authenticates from memory, and forgets at once what is revoked here", async () => {
      const signals = createControlSignals()
      const authenticator = createApiKeyAuthenticator({ keys: harness.keys, signals, clock: harness.clock })
      const { key, token } = await create({ permissions: ["cache.read"] })
      const caller = await authenticator.authenticate(token)
      assert.equal(caller.tenant, scope.tenant)
      assert.deepEqual(caller.principal, {
        id: `key:${key.id}`,
        platform: false,
        permissions: new Set(["cache.read"]),
      })
      assert.equal(authenticator.authenticate(token), caller)
      await harness.keys.revoke(scope, key.id, false)
      assert.equal(authenticator.authenticate(token), caller)
      signals.identityChanged()
      await rejects(Promise.resolve(authenticator.authenticate(token)), "UNAUTHENTICATED")
      const other = await create()
      await authenticator.authenticate(other.token)
      await harness.keys.revoke(scope, other.key.id, false)
      harness.clock.advance(10_001)
      await rejects(Promise.resolve(authenticator.authenticate(other.token)), "UNAUTHENTICATED")
      assert.throws(() => authenticator.authenticate("kp_nonsense"), { reason: "UNAUTHENTICATED" })
      authenticator.close()
    })

    it("remembers a key also after the secret before its own has run out", async () => {
      const signals = createControlSignals()
      const authenticator = createApiKeyAuthenticator({ keys: harness.keys, signals, clock: harness.clock })
      const { key } = await create()
      const input = { id: key.id, platform: false, graceUntil: harness.clock.now() }
      const { token } = await rotateApiKey({ keys: harness.keys, minter }, scope, ROOT, input)
      harness.clock.advance(1_000)
      assert.equal(await authenticator.authenticate(token), authenticator.authenticate(token))
      authenticator.close()
    })

    it("never remembers a key beyond its expiry", async () => {
      const signals = createControlSignals()
      const authenticator = createApiKeyAuthenticator({ keys: harness.keys, signals, clock: harness.clock })
      const { token } = await create({ expireTime: harness.clock.now() + 500 })
      await authenticator.authenticate(token)
      harness.clock.advance(500)
      await rejects(Promise.resolve(authenticator.authenticate(token)), "UNAUTHENTICATED")
      authenticator.close()
    })

    it("believes a key that it verified for a bounded time while the store is away", async () => {
      let away = false
      const keys: typeof harness.keys = Object.assign(Object.create(harness.keys), {
        find: (...args: Parameters<typeof harness.keys.find>) => {
          if (away) throw new DomainError("STORE_UNAVAILABLE", "away", { metadata: { store: "control" } })
          return harness.keys.find(...args)
        },
      })
      const signals = createControlSignals()
      const authenticator = createApiKeyAuthenticator({ keys, signals, clock: harness.clock })
      const known = await create({ expireTime: harness.clock.now() + 120_000 })
      const unseen = await create()
      const lasting = await create()
      for (const { token } of [known, lasting]) await authenticator.authenticate(token)
      away = true
      harness.clock.advance(20_000)
      assert.ok(authenticator.authenticate(known.token) instanceof Promise)
      await authenticator.authenticate(known.token)
      // From then on nobody waits to be told the same.
      assert.ok(!(authenticator.authenticate(lasting.token) instanceof Promise))
      harness.clock.advance(40_000)
      assert.equal((await authenticator.authenticate(known.token)).principal.id, `key:${known.key.id}`)
      await rejects(Promise.resolve(authenticator.authenticate(unseen.token)), "STORE_UNAVAILABLE")
      harness.clock.advance(60_000)
      await rejects(Promise.resolve(authenticator.authenticate(known.token)), "STORE_UNAVAILABLE")
      await authenticator.authenticate(lasting.token)
      harness.clock.advance(180_001)
      await rejects(Promise.resolve(authenticator.authenticate(lasting.token)), "STORE_UNAVAILABLE")
      away = false
      await authenticator.authenticate(lasting.token)
      authenticator.close()
    })

    it("keeps the platform's keys apart from every tenant's", async () => {
      const { key, token } = await create({ platform: true, permissions: ["*"] })
      assert.equal(key.platform, true)
      await rejects(harness.keys.get(scope, key.id, false), "NOT_FOUND")
      assert.equal((await harness.keys.get(scope, key.id, true)).id, key.id)
      assert.equal(await code(token), "NOT_FOUND")
      const listed = await harness.keys.list(scope, undefined, false, { size: 1_000 })
      assert.ok(listed.items.every(({ id, platform }) => id !== key.id && !platform))
      const authenticator = createApiKeyAuthenticator({
        keys: harness.keys,
        signals: createControlSignals(),
        clock: harness.clock,
      })
      const caller = await authenticator.authenticate(token)
      assert.equal(caller.principal.platform, true)
      assert.equal(caller.tenant, undefined)
      assert.ok((await harness.audited(PLATFORM_TENANT)).includes("CreateApiKey"))
    })

    it("has no secret at rest, in lists or in errors", async () => {
      const request = withRequestId(scope, "ControlService/CreateApiKey", "hygiene", 1)
      const { key, token } = await create({ name: "hygiene" }, request)
      const input = { id: key.id, platform: false, graceUntil: harness.clock.now() + DAY_MS }
      const repeat = withRequestId(scope, "ControlService/RotateApiKey", "hygiene", 1)
      const rotated = await rotateApiKey({ keys: harness.keys, minter }, repeat, ROOT, input)
      await harness.keys.revoke(scope, key.id, false)
      const refused = await rejects(
        rotateApiKey({ keys: harness.keys, minter }, scope, ROOT, input),
        "FAILED_PRECONDITION",
      )
      const listed = await harness.keys.list(scope, undefined, false, { size: 1_000 })
      const found = await harness.keys.find(scope, key.id)
      const seen = [
        await harness.atRest(),
        inspect(refused, { depth: 9 }),
        inspect(listed, { depth: 9 }),
        inspect(found),
      ]
      for (const secret of [token, rotated.token].map((each) => each.slice(key.id.length + 4))) {
        for (const text of seen) {
          assert.ok(!text.includes(secret))
          assert.ok(!text.includes(Buffer.from(secret).toString("hex")))
          assert.ok(!text.includes(Buffer.from(secret).toString("base64").slice(0, 40)))
        }
      }
      assert.ok(seen[0]?.includes(key.id), "the dump must show keys at all")
    })
  })
}
