/** The end of a tenant in the engine of this process. */
import { describe } from "node:test"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { cacheEraserHarness } from "../contract/cache-eraser.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { freshTenant } from "../engines/pglite.ts"

describe("in process", () => {
  tenantEraserContract(async () => cacheEraserHarness({ ...createInProcessEngines(), freshTenant }))
})
