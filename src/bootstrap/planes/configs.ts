/** Where configuration lives: with the rest of the control plane, or beside events on a cluster. */
import { CONFIG_STORE_OPERATIONS, type ConfigStore } from "../../domain/control/ports.ts"
import type { AuditStore } from "../../domain/event/audit-ports.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { controlTag } from "../../domain/outbox/cache-relay.ts"
import { createConfigStore } from "../../stores/postgres/config-store.ts"
import type { ControlDeps } from "../../stores/postgres/control-mutation.ts"
import { oweInvalidation } from "../../stores/postgres/invalidation-debts.ts"
import type { Kit } from "../kit.ts"
import type { Sweeper } from "../sweepers.ts"

const REPAIR_MS = 60_000

/** The store, and its work in the background. */
export interface ConfigPlace {
  readonly store: ConfigStore
  readonly sweepers: readonly Sweeper[]
}

/** Makes it. `audit` is where changes are recorded on a cluster; in a database their own transaction records them. */
export async function configPlace(kit: Kit, deps: ControlDeps, audit: AuditStore): Promise<ConfigPlace> {
  const engine = kit.handle("events")
  if (!kit.config.stores.events.configs || engine?.kind !== "cassandra") {
    const store = kit.guard("control", "configs", createConfigStore(deps), CONFIG_STORE_OPERATIONS)
    return { store, sweepers: [] }
  }
  const { createCassandraConfigStore } = await import("../../stores/cassandra/stores.ts")
  const changed = tellCache(kit, deps)
  const raw = createCassandraConfigStore({ cql: engine.cassandra.session, clock: kit.clock, audit, changed })
  const store = kit.guard("events", "configs", raw, { ...CONFIG_STORE_OPERATIONS, repair: "write" })
  const run: Sweeper["run"] = async (scope) => {
    await store.repair(scope)
    return { removed: 0, more: false }
  }
  return { store, sweepers: [{ name: "configs", intervalMs: REPAIR_MS, run }] }
}

/** The log of the changes is in another store than the outbox, so that the one makes up for debts that did not reach the other. */
function tellCache(kit: Kit, { invalidations }: ControlDeps) {
  if (invalidations === undefined) return undefined
  const { database } = kit.sql("control")
  return async (scope: CallScope, keys: readonly string[]): Promise<void> => {
    const tags = keys.flatMap((key) => controlTag("config", key) ?? [])
    if (tags.length === 0) return
    if (invalidations.owed) await oweInvalidation(database, scope, tags)
    invalidations.committed(scope.tenant, tags)
  }
}
