/** The flows of the control plane over one SQL engine and the cache in this process, as bootstrap puts them together. */
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { deleteTenantSaga } from "../../src/domain/control/delete-tenant.ts"
import { eraseSubjectSaga } from "../../src/domain/control/erase-subject.ts"
import { ControlFlows } from "../../src/domain/control/flows.ts"
import { createAgentSaga } from "../../src/domain/control/provision-agent.ts"
import { createControlSignals } from "../../src/domain/control/signals.ts"
import {
  cacheSubjects,
  controlSubjects,
  memorySubjects,
  sessionSubjects,
  streamSubjects,
} from "../../src/domain/control/subject-erasers.ts"
import { EventLog } from "../../src/domain/event/event-log.ts"
import { type Clock, systemClock } from "../../src/domain/kernel/clock.ts"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { SagaRunner } from "../../src/domain/saga/runner.ts"
import { createLexicalEmbedder } from "../../src/stores/embedders/index.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import { createTenantEraser, type SqlEngine } from "../../src/stores/postgres/index.ts"
import { createApiKeyStore } from "../../src/stores/postgres/key-store.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { createRoleStore } from "../../src/stores/postgres/role-store.ts"
import { createSagaStore } from "../../src/stores/postgres/saga-store.ts"
import { createPostgresSessionStore } from "../../src/stores/postgres/session-store.ts"
import { createTenantStore } from "../../src/stores/postgres/tenant-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"

/** Everything the flows touch, and the flows. */
export function controlFlows({ database, capabilities }: SqlEngine, clock: Clock) {
  const deps = { database, clock }
  const options = { clock, concurrency: capabilities.concurrency }
  const signals = createControlSignals()
  // It holds deadlines against its clock, and those of background work are real ones.
  const { store: cache, eraser: cacheEraser } = createInProcessEngines({ clock: systemClock })
  const stores = {
    tenants: createTenantStore(deps),
    users: createUserStore(deps),
    agents: createAgentStore(deps),
    roles: createRoleStore(deps),
    keys: createApiKeyStore(deps),
    memory: createMemoryStore({ ...deps, concurrency: capabilities.concurrency }),
    events: new EventLog(createPostgresEventStore(database, options)),
    sessions: createPostgresSessionStore(database, options),
    audit: createPostgresAuditStore(database, options),
    sagas: createSagaStore(deps),
    namespaces: new Namespaces(),
    cache,
  }
  const lexical = createLexicalEmbedder()
  const erasers = [createTenantEraser(database, "sql"), cacheEraser]
  const runner = new SagaRunner({ store: stores.sagas, clock, logger: silentLogger }, [
    createAgentSaga({ ...stores, clock, embedders: new Map([[lexical.name, lexical]]) }),
    deleteTenantSaga({ ...stores, erasers, signals, clock }),
    eraseSubjectSaga({
      erasers: [
        controlSubjects({ ...stores, signals }),
        sessionSubjects(stores.sessions),
        memorySubjects(stores.memory),
        streamSubjects(stores.events.store),
        cacheSubjects(cache, stores.namespaces),
      ],
      audit: stores.audit,
      clock,
    }),
  ])
  return { ...stores, signals, flows: new ControlFlows({ ...stores, runner, erasers, clock }) }
}
