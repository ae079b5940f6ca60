/** The pub/sub suite on the in-process engine. */
import type { TenantId } from "../../src/domain/kernel/scope.ts"
import { InProcessPubSub, PUBSUB_LIMITS } from "../../src/stores/inprocess/pubsub.ts"
import { pubSubContract } from "../contract/pubsub.contract.ts"
import { ManualClock } from "../support/manual-clock.ts"

let tenants = 0

pubSubContract(async () => ({
  pubsub: new InProcessPubSub(new ManualClock(), { ...PUBSUB_LIMITS, maxMessages: 16 }),
  freshTenant: () => `tenant-${++tenants}` as TenantId,
  bufferedMessages: 16,
}))
