/** The rate-limit suite on the in-process engine. */
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { InProcessRateLimiter } from "../../src/stores/inprocess/rate-limiter.ts"
import { rateLimitContract } from "../contract/rate-limit.contract.ts"
import { ManualClock } from "../support/manual-clock.ts"

let tenants = 0

rateLimitContract(async () => {
  const clock = new ManualClock()
  const freshTenant = () => `tenant-${++tenants}` as TenantId
  return { limiter: new InProcessRateLimiter(clock), clock, freshTenant }
})
