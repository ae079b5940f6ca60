/** What every engine owes to the end of a tenant. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Removal, TenantEraser } from "../../src/domain/control/erasure.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"

/** An engine whose tenants have something to lose. */
export interface TenantEraserHarness {
  readonly eraser: TenantEraser
  freshTenant(): TenantId
  /** Writes something of each kind; to an empty tenant only. */
  fill(scope: CallScope): Promise<void>
  /** Rejects unless all that {@link TenantEraserHarness.fill} wrote is there. */
  check(scope: CallScope): Promise<void>
}

const total = (removals: readonly Removal[]) => removals.reduce((sum, { count }) => sum + count, 0)

/** Registers the suite. */
export function tenantEraserContract(make: () => Promise<TenantEraserHarness>): void {
  describe("the end of a tenant", () => {
    let made: Promise<TenantEraserHarness> | undefined
    const prepared = async () => {
      made ??= make()
      const harness = await made
      return { ...harness, scope: systemScope(harness.freshTenant()) }
    }

    it("finds nothing of a tenant who has nothing", async () => {
      const { eraser, scope } = await prepared()
      assert.equal(await eraser.holds(scope), false)
      assert.equal(total(await eraser.erase(scope)), 0)
    })

    it("removes all that he has, says how much from where, and finds nothing again", async () => {
      const { eraser, scope, fill } = await prepared()
      await fill(scope)
      assert.equal(await eraser.holds(scope), true)
      const removals = await eraser.erase(scope)
      assert.ok(total(removals) > 0)
      assert.ok(
        removals.every(({ store, what, count }) => store === eraser.store && what !== "" && count > 0),
      )
      assert.equal(await eraser.holds(scope), false)
      assert.equal(total(await eraser.erase(scope)), 0)
    })

    it("touches nobody else, not even one whose name begins like his", async () => {
      const { eraser, scope, fill, check } = await prepared()
      const others = [`${scope.tenant}-a`, `${scope.tenant}0`].map((name) => systemScope(name as TenantId))
      for (const each of [scope, ...others]) await fill(each)
      await eraser.erase(scope)
      for (const other of others) {
        assert.equal(await eraser.holds(other), true)
        await check(other)
      }
    })

    it("lets one of the same name begin anew", async () => {
      const { eraser, scope, fill, check } = await prepared()
      for (let life = 1; life <= 2; life++) {
        await fill(scope)
        await check(scope)
        assert.ok(total(await eraser.erase(scope)) > 0, `life ${life}`)
        assert.equal(await eraser.holds(scope), false, `life ${life}`)
      }
    })
  })
}
