/** Cassandra or ScyllaDB behind the store `events`. */
import { readFile } from "node:fs/promises"
import type { Config } from "../../config/schema.ts"
import { keepsJobHistory } from "../../config/stores.ts"
import type { CassandraEngine } from "../../stores/cassandra/index.ts"
import { jobLives } from "../retention.ts"
import { capabilityTexts, type OpenEngine } from "./engine.ts"

/** Opens the cluster that `stores.events` names; it need not answer yet. */
export async function openEvents(config: Config): Promise<OpenEngine> {
  // Imported here, so that a daemon without it never loads the driver.
  const { openCassandra } = await import("../../stores/cassandra/index.ts")
  const { createCassandraTenantEraser } = await import("../../stores/cassandra/stores.ts")
  const { events } = config.stores
  const file = events.password_file
  const cassandra: CassandraEngine = openCassandra({
    url: events.url.reveal(),
    password: file === undefined ? undefined : async () => (await readFile(file, "utf8")).trim(),
    connectMs: events.connect_timeout_ms,
    jobLives: keepsJobHistory(events) ? jobLives(config).values : undefined,
  })
  const { engine } = cassandra.capabilities
  return {
    name: "events",
    stores: ["events"],
    place: String(events.url),
    inThread: false,
    handle: { kind: "cassandra", cassandra },
    schema: { migrate: (how) => cassandra.migrate(how), list: () => cassandra.listMigrations() },
    describe: () => ({ engine, capabilities: capabilityTexts(cassandra.capabilities) }),
    ping: (scope) => cassandra.ping(scope),
    pool: () => cassandra.stats(),
    eraser: createCassandraTenantEraser(cassandra.session, "events"),
    close: () => cassandra.close(),
  }
}
