/** Where jobs live: in the database of the control plane, and once they have ended beside events on a cluster. */
import { keepsJobHistory } from "../../config/stores.ts"
import { JOB_EXITS_OPERATIONS } from "../../domain/event/job-exits.ts"
import { JOB_HISTORY_OPERATIONS } from "../../domain/event/job-history.ts"
import { moveEndedJobs, withJobHistory } from "../../domain/event/job-past.ts"
import { JOB_STORE_OPERATIONS, type JobStore } from "../../domain/event/job-ports.ts"
import { createPostgresJobExits } from "../../stores/postgres/job-exits.ts"
import { createPostgresJobStore } from "../../stores/postgres/job-store.ts"
import type { Kit } from "../kit.ts"
import { jobLives, retentionMs } from "../retention.ts"
import type { Sweeper } from "../sweepers.ts"

const SWEEP_ROWS = 1_000
const SWEEP_MS = 5_000
const MOVE_MS = 10_000
const HOUR_MS = 3_600_000

/** The store, and its work in the background. */
export interface JobPlace {
  readonly store: JobStore
  readonly sweepers: readonly Sweeper[]
}

/** Makes it, with the history where the configuration has one. */
export async function jobPlace(kit: Kit): Promise<JobPlace> {
  const { database } = kit.sql("control")
  const kept = retentionMs(kit.config, "jobs_days")
  const raw = createPostgresJobStore(database, { retentionMs: kept })
  const store = kit.guard("control", "jobs", raw, JOB_STORE_OPERATIONS)
  const sweep: Sweeper = {
    name: "jobs",
    intervalMs: SWEEP_MS,
    run: async (scope) => {
      const { expired, removed } = await store.sweep(scope, SWEEP_ROWS)
      return { removed: expired + removed, more: Math.max(expired, removed) >= SWEEP_ROWS }
    },
  }
  const engine = kit.handle("events")
  if (engine?.kind !== "cassandra" || !keepsJobHistory(kit.config.stores.events))
    return { store, sweepers: [sweep] }
  const { createCassandraJobHistory } = await import("../../stores/cassandra/stores.ts")
  const past = createCassandraJobHistory({
    cql: engine.cassandra.session,
    clock: kit.clock,
    lives: jobLives(kit.config),
  })
  const history = kit.guard("events", "job_history", past, JOB_HISTORY_OPERATIONS)
  const door = createPostgresJobExits(database, { retentionMs: Math.max(...kept.values) })
  const exits = kit.guard("control", "job_exits", door, JOB_EXITS_OPERATIONS)
  const stayMs = kit.config.retention.jobs_queue_hours * HOUR_MS
  const move: Sweeper = {
    name: "jobs-ended",
    intervalMs: MOVE_MS,
    run: async (scope) => {
      const removed = await moveEndedJobs(scope, { exits, history }, { stayMs })
      return { removed, more: removed > 0 }
    },
  }
  return { store: withJobHistory({ store, exits, history }), sweepers: [sweep, move] }
}
