import assert from "node:assert/strict"
import { test } from "node:test"
import { PLATFORM_TENANT, type TenantId } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"

const value = new ByTenant("rest", [
  { name: "trial", tenants: ["trial-*", "acme"], value: "short" },
  { name: "none", tenants: ["zero"], value: undefined },
])

test("a tenant has the value of its class, by its id or by the beginning of it", () => {
  const of = (tenant: string) => value.of(tenant as TenantId)
  assert.deepEqual(["trial-1", "trial-", "acme"].map(of), ["short", "short", "short"])
  assert.deepEqual(["trial", "acme-1", "acm", "a-trial-1", "x"].map(of), Array(5).fill("rest"))
  assert.equal(of("zero"), undefined)
  assert.equal(value.of(PLATFORM_TENANT), "rest")
})

test("all values can be had, and changed together", () => {
  assert.deepEqual(value.values, ["rest", "short", undefined])
  const lengths = value.map((text) => text?.length ?? 0)
  assert.deepEqual(lengths.values, [4, 5, 0])
  assert.equal(lengths.of("trial-9" as TenantId), 5)
  assert.equal(new ByTenant(1).of("anybody" as TenantId), 1)
})
