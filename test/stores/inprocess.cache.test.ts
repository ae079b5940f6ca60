/** The cache suite on the in-process engine. */
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { LuaScripts } from "../../src/stores/inprocess/lua-scripts.ts"
import { cacheContract } from "../contract/cache.contract.ts"
import { ManualClock } from "../support/manual-clock.ts"

let tenants = 0

cacheContract(async () => {
  const clock = new ManualClock()
  const { store } = createInProcessEngines({ clock, scripts: new LuaScripts(BUILT_IN_SCRIPTS) })
  return { store, clock, freshTenant: () => `tenant-${++tenants}` as TenantId }
})
