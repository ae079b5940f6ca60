/** The suites on a node of Cassandra 4.1. What only one release of several can show is in the other files. */
import { describe } from "node:test"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import { createCassandraConfigStore } from "../../src/stores/cassandra/config-store.ts"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import { MAX_BATCH_EVENTS } from "../../src/stores/cassandra/event-tip.ts"
import type { CassandraEngine, Cluster } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { createCassandraSessionStore } from "../../src/stores/cassandra/session-store.ts"
import { auditContract } from "../contract/audit.contract.ts"
import { auditExportContract } from "../contract/audit-export.contract.ts"
import type { AuditHarness } from "../contract/audit-support.ts"
import { configContract } from "../contract/config.contract.ts"
import { eventContract } from "../contract/event.contract.ts"
import { eventDaemonsContract } from "../contract/event-daemons.contract.ts"
import { eventLogContract } from "../contract/event-log.contract.ts"
import type { EventHarness } from "../contract/event-support.ts"
import { jobHistoryContract } from "../contract/job-history.contract.ts"
import {
  auditClassesContract,
  HISTORY_CLASSES,
  jobHistoryClassesContract,
} from "../contract/retention.contract.ts"
import { sessionContract } from "../contract/session.contract.ts"
import { tenantEraserContract } from "../contract/tenant-eraser.contract.ts"
import { freshTenant, releaseSkip, startRing, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { eraserHarness, KEYSPACE } from "./cassandra-tenant.ts"

const skip = await releaseSkip("4.1")

describe("on Cassandra 4.1", { skip, timeout: 900_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const cluster = async (): Promise<Cluster> => {
    opened ??= testCassandra(
      { jobLives: [...HISTORY_CLASSES, ...KEYSPACE.jobLives] },
      startRing(1, { release: "4.1" }).then(({ hosts }) => hosts),
    )
    return (await opened).session
  }
  const movableClock = () => {
    let now = Date.now()
    const set = (ms: number) => {
      now = ms
    }
    return { now: () => now, set, advance: (ms: number) => set(now + ms) }
  }

  const events = async (): Promise<EventHarness> => {
    const [cql, clock] = [await cluster(), movableClock()]
    const another: EventHarness["another"] = (own = clock) =>
      createCassandraEventStore(cql, { clock: own, bucketEvents: MAX_BATCH_EVENTS })
    return { store: another(), another, freshTenant, clock }
  }
  eventContract(events)
  eventLogContract(events)
  eventDaemonsContract(events)

  sessionContract(async () => {
    const [cql, clock] = [await cluster(), heldClock()]
    return { store: createCassandraSessionStore({ cql, clock }), freshTenant, clock }
  })

  const audit = async (): Promise<AuditHarness> => {
    const [cql, clock] = [await cluster(), heldClock()]
    return { store: createCassandraAuditStore({ cql, clock }), freshTenant, clock }
  }
  auditContract(audit)
  auditExportContract(audit)
  auditClassesContract(audit)

  configContract(async () => {
    const [cql, clock] = [await cluster(), heldClock()]
    const store = createCassandraAuditStore({ cql, clock })
    return { configs: createCassandraConfigStore({ cql, clock, audit: store }), freshTenant, clock }
  })

  jobHistoryContract(async () => {
    const [cql, clock] = [await cluster(), heldClock()]
    return { history: createCassandraJobHistory({ cql, clock }), freshTenant, clock }
  })
  jobHistoryClassesContract(async (lives) => {
    const [cql, clock] = [await cluster(), heldClock()]
    return { history: createCassandraJobHistory({ cql, clock, lives }), freshTenant, clock }
  })

  tenantEraserContract(async () => eraserHarness(await cluster()))
})
