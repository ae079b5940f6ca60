import { LOCK_STORE_OPERATIONS } from "../../domain/cache/lock-model.ts"
import { LockQueue } from "../../domain/cache/lock-queue.ts"
import { AUDIT_STORE_OPERATIONS, type AuditStore } from "../../domain/event/audit-ports.ts"
import { retireAudit } from "../../domain/event/audit-retention.ts"
import { JobQueue } from "../../domain/event/job-queue.ts"
import { AUDIT_TOPIC, auditHandler } from "../../domain/outbox/audit-relay.ts"
import { createAuditService } from "../../services/audit-service.ts"
import { createJobService } from "../../services/job-service.ts"
import { createLockService } from "../../services/lock-service.ts"
import { createPostgresLockStore } from "../../stores/postgres/lock-store.ts"
import type { Kit, Plane } from "../kit.ts"
import { retentionOf } from "../retention.ts"
import { jobPlace } from "./event-jobs.ts"
import { eventStores } from "./event-stores.ts"

const SWEEP_ROWS = 1_000
const SWEEP_DAYS = 4
const LEFTOVERS_POLL_MS = [60_000, 120_000] as const

/** JobService and LockService: what waits for leases, so it lives where nothing is forgotten. */
export async function workPlane(kit: Kit): Promise<Plane> {
  const { database } = kit.sql("control")
  const jobs = await jobPlace(kit)
  const locks = kit.guard("control", "locks", createPostgresLockStore(database), LOCK_STORE_OPERATIONS)
  return {
    services: [
      createJobService({ jobs: new JobQueue(jobs.store), pages: kit.pages }),
      createLockService({ locks: new LockQueue(locks) }),
    ],
    needs: ["control"],
    sweepers: [
      ...jobs.sweepers,
      {
        name: "locks",
        intervalMs: 600_000,
        run: async (scope) => {
          const removed = await locks.sweep(scope, SWEEP_ROWS)
          return { removed, more: removed >= SWEEP_ROWS }
        },
      },
    ],
    close: async () => {},
  }
}

/** The audit plane, and what flows over several planes use of it. */
export interface AuditPlane extends Plane {
  readonly audit: AuditStore
}

/** AuditService. */
export async function auditPlane(kit: Kit): Promise<AuditPlane> {
  const raw = await eventStores(kit)
  const audit = kit.guard("events", "audit", raw.audit, AUDIT_STORE_OPERATIONS)
  // Where the log is in the database of the changes, their own transaction records them. Then the outbox has at most what another
  // configuration has left behind.
  const apart = kit.handle("events") !== kit.handle("control")
  const handle = auditHandler(audit, () => kit.clock.now())
  const pollMs = apart ? undefined : LEFTOVERS_POLL_MS
  kit.outbox("control").serve({ topic: AUDIT_TOPIC, handle, batch: 50, pollMs })
  const years = retentionOf(kit.config, "audit_years")
  return {
    audit,
    services: [createAuditService({ audit, pages: kit.pages, clock: kit.clock })],
    needs: ["events"],
    sweepers: [
      {
        name: "audit",
        intervalMs: 3_600_000,
        run: async (scope) => {
          const removed = await retireAudit(scope, audit, kit.clock, SWEEP_DAYS, years)
          return { removed, more: removed >= SWEEP_DAYS }
        },
      },
    ],
    close: async () => {},
  }
}
