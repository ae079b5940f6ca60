/** Credentials, permissions and tenants. */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { type Authenticator, firstOf, type Identity } from "../../src/rpc/auth/authenticator.ts"
import { tokenFileAuthenticator } from "../../src/rpc/auth/token-file.ts"
import { open, WAYS } from "./support/harness.ts"

const folder = mkdtempSync(join(tmpdir(), "keelplane-identity-"))
after(() => rmSync(folder, { recursive: true }))

function identity(id: string, permissions: string[], platform = false): Identity {
  return { id, platform, permissions: new Set(permissions), tenant: "acme" as TenantId }
}

const KEYS: Readonly<Record<string, Identity>> = {
  reader: identity("key:reader", ["cache.read"]),
  plane: identity("key:plane", ["cache.*"]),
  other: identity("key:other", ["memory.read"]),
  platform: identity("key:platform", ["*"], true),
  all: identity("key:all", ["*"]),
}

/** Knows {@link KEYS}; asynchronously where the key is sent as x-api-key. */
const authenticator: Authenticator = {
  authenticate({ bearer, apiKey }) {
    if (bearer !== undefined) return KEYS[bearer]
    if (apiKey === "store-down") throw new DomainError("STORE_UNAVAILABLE", "the key store is away")
    return Promise.resolve(KEYS[apiKey ?? ""])
  },
}

for (const way of WAYS) {
  describe(`identity over ${way}`, { timeout: 60_000 }, () => {
    const bearer = (key: string, more: object = {}) => ({
      headers: { authorization: `Bearer ${key}`, ...more },
    })

    it("is needed as soon as authentication is on", async () => {
      await using edge = await open(way, { authenticator })
      const wrong = [
        {},
        { authorization: "Bearer nobody" },
        { authorization: "Basic abc" },
        { "x-api-key": "nobody" },
      ]
      for (const headers of wrong) {
        const outcome = await edge.echo({ text: "x" }, { headers: headers as Record<string, string> })
        assert.equal(outcome.code, 16)
        assert.equal(outcome.reason, "UNAUTHENTICATED")
      }
      const away = await edge.echo({}, { headers: { "x-api-key": "store-down" } })
      assert.equal(away.reason, "STORE_UNAVAILABLE")
    })

    it("comes before a look at the message", async () => {
      await using edge = await open(way, { authenticator })
      const outcome = await edge.echo({ requestId: "r".repeat(500) })
      assert.equal(outcome.reason, "UNAUTHENTICATED")
    })

    it("settles tenant, principal and permission, from either header", async () => {
      await using edge = await open(way, { authenticator })
      const both: Record<string, string>[] = [{ authorization: "bearer reader" }, { "x-api-key": "reader" }]
      for (const headers of both) {
        const outcome = await edge.echo({}, { headers })
        assert.equal(outcome.response.tenant, "acme")
        assert.equal(outcome.response.principal, "key:reader")
      }
      assert.equal((await edge.echo({}, bearer("plane"))).code, 0)
      const refused = await edge.echo({}, bearer("other"))
      assert.equal(refused.code, 7)
      assert.equal(refused.reason, "PERMISSION_DENIED")
      assert.equal(refused.metadata.permission, "cache.read")
    })

    it("keeps platform-only RPCs to platform credentials", async () => {
      await using edge = await open(way, { authenticator })
      assert.equal((await edge.echo({}, { method: "Rule", ...bearer("all") })).reason, "PERMISSION_DENIED")
      assert.equal((await edge.echo({}, { method: "Rule", ...bearer("platform") })).code, 0)
    })

    it("lets only a platform credential act for another tenant", async () => {
      await using edge = await open(way, { authenticator })
      const as = (key: string, tenant: string) => edge.echo({}, bearer(key, { "x-keelplane-tenant": tenant }))
      assert.equal((await as("platform", "globex")).response.tenant, "globex")
      assert.equal((await as("reader", "acme")).response.tenant, "acme")
      assert.equal((await as("reader", "globex")).reason, "PERMISSION_DENIED")
      for (const bad of ["*", "Globex", "a b", "-a", "a".repeat(64)]) {
        assert.equal((await as("platform", bad)).reason, "INVALID_FIELD", bad)
      }
    })

    it("acts for tenants that exist, and tells a platform credential which do not", async () => {
      const exists = (tenant: TenantId) =>
        tenant === "slow" ? Promise.resolve(true) : tenant === "globex" || tenant === "acme"
      await using edge = await open(way, { authenticator, tenants: { exists } })
      const as = (key: string, tenant: string) => edge.echo({}, bearer(key, { "x-keelplane-tenant": tenant }))
      assert.equal((await as("platform", "globex")).response.tenant, "globex")
      assert.equal((await as("platform", "slow")).response.tenant, "slow")
      assert.equal((await as("platform", "nowhere")).reason, "NOT_FOUND")
      assert.equal((await as("reader", "nowhere")).reason, "PERMISSION_DENIED")
    })

    it("is the local principal of the default tenant while authentication is off", async () => {
      await using edge = await open(way)
      const outcome = await edge.echo({}, { method: "Rule" })
      assert.equal(outcome.response.principal, "local")
      assert.equal(outcome.response.tenant, "default")
      const other = await edge.echo({}, { headers: { "x-keelplane-tenant": "other" } })
      assert.equal(other.response.tenant, "other")
    })
  })
}

describe("the token file", () => {
  const path = join(folder, "tokens")
  let now = 0
  const make = () => tokenFileAuthenticator({ path, logger: silentLogger, now: () => now })
  const knows = async (each: Authenticator, token: string) =>
    (await each.authenticate({ bearer: token, peer: "unix" })) !== undefined

  it("may hold two tokens at once, and is read again when it changes", async () => {
    writeFileSync(path, "# first\nold-token-0123456789-0123456789-01\nnew-token-0123456789-0123456789-01\n")
    const tokens = make()
    assert.equal(await knows(tokens, "old-token-0123456789-0123456789-01"), true)
    assert.equal(await knows(tokens, "new-token-0123456789-0123456789-01"), true)
    assert.equal(await knows(tokens, "# first"), false)
    assert.equal(await knows(tokens, ""), false)
    writeFileSync(path, "new-token-0123456789-0123456789-01\n")
    now += 5000
    assert.equal(await knows(tokens, "old-token-0123456789-0123456789-01"), false)
    assert.equal(await knows(tokens, "new-token-0123456789-0123456789-01"), true)
    rmSync(path)
    now += 5000
    assert.equal(
      await knows(tokens, "new-token-0123456789-0123456789-01"),
      true,
      "a file that vanished locks nobody out",
    )
  })

  it("revokes all tokens when it is emptied, and says so", async () => {
    writeFileSync(path, "only-token-0123456789-0123456789-0\n")
    const tokens = make()
    assert.equal(await knows(tokens, "only-token-0123456789-0123456789-0"), true)
    writeFileSync(path, "\n")
    now += 5000
    assert.equal(await knows(tokens, "only-token-0123456789-0123456789-0"), false)
  })

  it("is refused where it is missing, empty or holds a short token", () => {
    assert.throws(make)
    for (const content of ["", "# nothing\n", "short\n"]) {
      writeFileSync(path, content)
      assert.throws(make, /token file/)
    }
  })

  it("can stand beside other authenticators", async () => {
    writeFileSync(path, "file-token-0123456789-0123456789-0")
    const both = firstOf([make(), authenticator])
    assert.equal(
      (await both.authenticate({ bearer: "file-token-0123456789-0123456789-0", peer: "" }))?.id,
      "token",
    )
    assert.equal((await both.authenticate({ bearer: "reader", peer: "" }))?.id, "key:reader")
    assert.equal(await both.authenticate({ bearer: "nobody", peer: "" }), undefined)
  })
})
