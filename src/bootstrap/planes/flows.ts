/** The flows of the control plane over the other planes. */

import { deleteTenantSaga } from "../../domain/control/delete-tenant.ts"
import { eraseSubjectSaga } from "../../domain/control/erase-subject.ts"
import { ControlFlows } from "../../domain/control/flows.ts"
import type {
  AgentStore,
  ApiKeyStore,
  RoleStore,
  TenantStore,
  UserStore,
} from "../../domain/control/ports.ts"
import { createAgentSaga } from "../../domain/control/provision-agent.ts"
import type { ControlSignals } from "../../domain/control/signals.ts"
import {
  cacheSubjects,
  controlSubjects,
  memorySubjects,
  sessionSubjects,
  streamSubjects,
} from "../../domain/control/subject-erasers.ts"
import type { AuditStore } from "../../domain/event/audit-ports.ts"
import { SAGA_STORE_OPERATIONS } from "../../domain/saga/ports.ts"
import { SagaRunner } from "../../domain/saga/runner.ts"
import { createSagaStore } from "../../stores/postgres/saga-store.ts"
import type { Kit } from "../kit.ts"
import type { Sweeper } from "../sweepers.ts"
import type { CachePlane } from "./cache.ts"
import type { MemoryPlane } from "./memory.ts"
import type { StreamPlane } from "./streams.ts"

/** What the flows use of the other planes. */
export interface OtherPlanes {
  readonly memory: Pick<MemoryPlane, "store" | "embedders">
  readonly streams: Pick<StreamPlane, "events" | "sessions">
  readonly audit: AuditStore
  readonly cache: Pick<CachePlane, "store" | "namespaces">
}

interface ControlStores {
  readonly tenants: TenantStore
  readonly users: UserStore
  readonly agents: AgentStore
  readonly roles: RoleStore
  readonly keys: ApiKeyStore
  readonly signals: ControlSignals
}

/** Sagas live where control does. */
export function controlFlows(
  { config, sql, guard, clock, logger, tenantErasers: erasers }: Kit,
  stores: ControlStores,
  { memory, streams, audit, cache }: OtherPlanes,
): ControlFlows {
  const { database } = sql("control")
  const sagas = guard("control", "sagas", createSagaStore({ database, clock }), SAGA_STORE_OPERATIONS)
  const subjects = [
    controlSubjects(stores),
    sessionSubjects(streams.sessions),
    memorySubjects(memory.store),
    streamSubjects(streams.events.store),
    cacheSubjects(cache.store, cache.namespaces),
  ]
  const definitions = [
    createAgentSaga({
      ...stores,
      memory: memory.store,
      embedders: memory.embedders,
      events: streams.events,
      cache: cache.store,
      namespaces: cache.namespaces,
      clock,
    }),
    deleteTenantSaga({ ...stores, erasers, audit, clock }),
    eraseSubjectSaga({ erasers: subjects, audit, clock }),
  ]
  const options = { leaseMs: config.sagas.lease_ms }
  const runner = new SagaRunner({ store: sagas, clock, logger }, definitions, options)
  return new ControlFlows({ ...stores, runner, sagas, erasers, clock })
}

const SWEEP_ROWS = 1_000

/** The work of the flows in the background. */
export function flowSweepers(flows: ControlFlows, { sagas }: Kit["config"]): readonly Sweeper[] {
  return [
    {
      name: "sagas",
      intervalMs: sagas.interval_ms,
      run: async (scope) => ({ removed: 0, more: (await flows.work(scope)) > 0 }),
    },
    {
      name: "sagas-over",
      intervalMs: 3_600_000,
      run: async (scope) => {
        const removed = await flows.sweep(scope, SWEEP_ROWS)
        return { removed, more: removed >= SWEEP_ROWS }
      },
    },
  ]
}
