import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { createAgentStore } from "../../src/stores/postgres/agent-store.ts"
import { createConfigStore } from "../../src/stores/postgres/config-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createApiKeyStore } from "../../src/stores/postgres/key-store.ts"
import { createRoleStore } from "../../src/stores/postgres/role-store.ts"
import { createTenantStore } from "../../src/stores/postgres/tenant-store.ts"
import { createUserStore } from "../../src/stores/postgres/user-store.ts"
import { apiKeyContract } from "../contract/api-key.contract.ts"
import { configContract } from "../contract/config.contract.ts"
import { controlContract } from "../contract/control.contract.ts"
import type { ControlHarness } from "../contract/control-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines, sqlEnginesAndPooler } from "../engines/sql-suites.ts"

function harness({ database }: SqlEngine): ControlHarness {
  const clock = heldClock()
  const deps = { database, clock }
  const everything: CallScope = systemScope()
  return {
    tenants: createTenantStore(deps),
    users: createUserStore(deps),
    agents: createAgentStore(deps),
    keys: createApiKeyStore(deps),
    roles: createRoleStore(deps),
    configs: createConfigStore(deps),
    freshTenant,
    clock,
    async atRest() {
      const tables = await database.query<{ name: string }>(everything, {
        text: `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname = 'keelplane' and c.relkind = 'r' and has_table_privilege(c.oid, 'select')`,
      })
      const dumps: string[] = []
      for (const { name } of tables.rows) {
        const { rows } = await database.query<{ row: string }>(everything, {
          text: `select row_to_json(t)::text as row from keelplane.${name} t`,
        })
        dumps.push(...rows.map(({ row }) => row))
      }
      return dumps.join("\n")
    },
    async audited(tenant) {
      const { rows } = await database.query<{ action: string }>(everything, {
        text: "select action from keelplane.audit_records where tenant = $1 order by day, seq",
        values: [tenant],
      })
      return rows.map(({ action }) => action)
    },
  }
}

onSqlEngines(
  (open) => {
    const make = async () => harness(await open())
    controlContract(make)
    apiKeyContract(make)
    configContract(make)
  },
  await sqlEnginesAndPooler(),
)
