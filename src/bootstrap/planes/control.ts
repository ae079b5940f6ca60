import { BUDGET_STORE_OPERATIONS, USAGE_STORE_OPERATIONS } from "../../domain/billing/ports.ts"
import { retireUsage } from "../../domain/billing/usage-retention.ts"
import { createTokenMinter } from "../../domain/control/api-key-token.ts"
import {
  type ApiKeyAuthenticator,
  createApiKeyAuthenticator,
} from "../../domain/control/authenticate-api-key.ts"
import {
  AGENT_STORE_OPERATIONS,
  API_KEY_STORE_OPERATIONS,
  ROLE_STORE_OPERATIONS,
  TENANT_STORE_OPERATIONS,
  USER_STORE_OPERATIONS,
} from "../../domain/control/ports.ts"
import { createControlSignals } from "../../domain/control/signals.ts"
import { createTenantDirectory, type TenantDirectory } from "../../domain/control/tenant-directory.ts"
import { DEFAULT_TENANT, systemScope } from "../../domain/kernel/scope.ts"
import { createBillingService } from "../../services/billing-service.ts"
import { createControlService } from "../../services/control-service.ts"
import { createAgentStore } from "../../stores/postgres/agent-store.ts"
import { createBudgetStore } from "../../stores/postgres/budget-store.ts"
import { createApiKeyStore } from "../../stores/postgres/key-store.ts"
import { createRoleStore } from "../../stores/postgres/role-store.ts"
import { createTenantStore } from "../../stores/postgres/tenant-store.ts"
import { createUsageStore } from "../../stores/postgres/usage-store.ts"
import { createUserStore } from "../../stores/postgres/user-store.ts"
import type { Kit, Plane } from "../kit.ts"
import { configPlace } from "./configs.ts"
import { controlFlows, flowSweepers, type OtherPlanes } from "./flows.ts"
import { cacheInvalidations } from "./invalidations.ts"

const SWEEP_ROWS = 1_000

/** The control plane, and what authentication needs of it. */
export interface ControlPlane extends Plane {
  readonly apiKeys: ApiKeyAuthenticator
  readonly directory: TenantDirectory
}

/** ControlService and BillingService. */
export async function controlPlane(kit: Kit, others: OtherPlanes): Promise<ControlPlane> {
  const { database } = kit.sql("control")
  const elsewhere = kit.handle("events") !== kit.handle("control")
  const auditOutbox = elsewhere ? kit.outbox("control").signals : undefined
  const invalidations = cacheInvalidations(kit, others.cache)
  const deps = { database, clock: kit.clock, auditOutbox, invalidations }
  const rawTenants = createTenantStore(deps)
  const tenants = kit.guard("control", "tenants", rawTenants, TENANT_STORE_OPERATIONS)
  const keys = kit.guard("control", "keys", createApiKeyStore(deps), API_KEY_STORE_OPERATIONS)
  const rawUsage = createUsageStore(deps)
  const usage = kit.guard("control", "usage", rawUsage, USAGE_STORE_OPERATIONS)
  const budgets = kit.guard("control", "budgets", createBudgetStore(deps), BUDGET_STORE_OPERATIONS)
  const signals = createControlSignals()
  const known = { graceMs: kit.config.auth.grace_ms }
  const apiKeys = createApiKeyAuthenticator({ keys, signals, clock: kit.clock }, known)
  const directory = createTenantDirectory({ tenants, signals, clock: kit.clock }, known)
  const users = kit.guard("control", "users", createUserStore(deps), USER_STORE_OPERATIONS)
  const agents = kit.guard("control", "agents", createAgentStore(deps), AGENT_STORE_OPERATIONS)
  const roles = kit.guard("control", "roles", createRoleStore(deps), ROLE_STORE_OPERATIONS)
  const flows = controlFlows(kit, { tenants, users, agents, roles, keys, signals }, others)
  const configs = await configPlace(kit, deps, others.audit)
  kit.before("control", () => rawTenants.ensure(systemScope(), DEFAULT_TENANT))
  return {
    services: [
      createControlService({
        tenants,
        users,
        agents,
        keys,
        roles,
        flows,
        configs: configs.store,
        signals,
        minter: createTokenMinter(),
        pages: kit.pages,
        clock: kit.clock,
      }),
      createBillingService({ usage, budgets, pages: kit.pages, clock: kit.clock }),
    ],
    needs: ["control"],
    sweepers: [
      {
        name: "reservations",
        intervalMs: 60_000,
        run: async (scope) => {
          const removed = await budgets.sweep(scope, SWEEP_ROWS)
          return { removed, more: removed >= SWEEP_ROWS }
        },
      },
      {
        name: "usage",
        intervalMs: 3_600_000,
        run: async (scope) => {
          const months = kit.config.retention.usage_months
          const removed = await retireUsage(scope, usage, kit.clock, months, SWEEP_ROWS)
          return { removed, more: removed > 0 }
        },
      },
      ...configs.sweepers,
      ...flowSweepers(flows, kit.config),
    ],
    apiKeys,
    directory,
    close: async () => {
      apiKeys.close()
      directory.close()
      await flows.settled()
      await rawUsage.close()
    },
  }
}
