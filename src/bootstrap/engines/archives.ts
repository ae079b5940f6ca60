/** The archives of all planes on the engines that the configuration names, for moving a tenant. */
import type { Config } from "../../config/schema.ts"
import { keepsJobHistory } from "../../config/stores.ts"
import { withArchivedHistory } from "../../domain/archive/job-history.ts"
import type { Archive, ImportMarks } from "../../domain/archive/ports.ts"
import { systemClock } from "../../domain/kernel/clock.ts"
import { createMemoryArchive } from "../../stores/memory/archive.ts"
import { createImportMarks, createSqlArchive } from "../../stores/postgres/archive.ts"
import { createSqlMemoryArchive } from "../../stores/postgres/archive-memory.ts"
import type { SqlEngine } from "../../stores/postgres/index.ts"
import { jobItem } from "../../stores/postgres/job-item.ts"
import { createMirrorSource } from "../../stores/postgres/memory-elsewhere.ts"
import { createMemoryStore } from "../../stores/postgres/memory-store.ts"
import { jobLives } from "../retention.ts"
import type { EngineHandle, OpenEngine, StoreName } from "./engine.ts"

/** What moves a tenant. */
export interface Archives {
  /** In the order of the file: what makes the tenant visible comes last. */
  readonly archives: readonly Archive[]
  readonly marks: ImportMarks
}

/** Puts them together. */
export async function openArchives(config: Config, engines: readonly OpenEngine[]): Promise<Archives> {
  const handleOf = (store: StoreName): EngineHandle | undefined =>
    engines.find(({ stores }) => stores.includes(store))?.handle
  const sqlOf = (store: StoreName): SqlEngine => {
    const handle = handleOf(store)
    if (handle?.kind !== "sql") throw new Error(`the store ${store} is served by an engine of another kind`)
    return handle.sql
  }
  const control = sqlOf("control")
  return {
    archives: [
      memoryArchive(sqlOf("memory"), handleOf("vectors")),
      ...(await eventArchives(handleOf("events"))),
      await configArchive(config, handleOf("events"), control),
      await jobArchive(config, handleOf("events"), control),
      createSqlArchive(control, "control"),
    ],
    marks: createImportMarks(control.database),
  }
}

function memoryArchive(sql: SqlEngine, vectors: EngineHandle | undefined): Archive {
  const { database, capabilities } = sql
  return createMemoryArchive({
    local: createSqlMemoryArchive(sql),
    registry: createMemoryStore({ database, clock: systemClock, concurrency: capabilities.concurrency }),
    elsewhere:
      vectors?.kind === "vectors"
        ? {
            vectors: vectors.vectors,
            source: createMirrorSource(database, systemClock, undefined),
            engine: vectors.vectors.capabilities.engine,
          }
        : undefined,
  })
}

/** Where the daemon keeps configuration by the same settings. */
async function configArchive(
  config: Config,
  events: EngineHandle | undefined,
  control: SqlEngine,
): Promise<Archive> {
  if (!config.stores.events.configs || events?.kind !== "cassandra")
    return createSqlArchive(control, "configs")
  const { createCassandraConfigArchive } = await import("../../stores/cassandra/stores.ts")
  return createCassandraConfigArchive(events.cassandra.session)
}

/** Where the daemon has them by the same settings. */
async function jobArchive(
  config: Config,
  handle: EngineHandle | undefined,
  control: SqlEngine,
): Promise<Archive> {
  const queue = createSqlArchive(control, "jobs")
  if (handle?.kind !== "cassandra" || !keepsJobHistory(config.stores.events)) return queue
  const { createCassandraJobHistory } = await import("../../stores/cassandra/stores.ts")
  const { session: cql } = handle.cassandra
  return withArchivedHistory(queue, createCassandraJobHistory({ cql, lives: jobLives(config) }), jobItem)
}

async function eventArchives(handle: EngineHandle | undefined): Promise<readonly Archive[]> {
  switch (handle?.kind) {
    case "sql":
      return (["streams", "sessions", "audit"] as const).map((plane) => createSqlArchive(handle.sql, plane))
    case "cassandra": {
      const { session: cql } = handle.cassandra
      const stores = await import("../../stores/cassandra/stores.ts")
      return [
        stores.createCassandraStreamArchive({ cluster: cql }),
        stores.createCassandraSessionArchive(cql),
        stores.createCassandraAuditArchive({ cql }),
      ]
    }
    default:
      throw new Error("the store events is served by an engine that cannot be moved")
  }
}
