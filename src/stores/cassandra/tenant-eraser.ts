/**
 * The end of a tenant in a keyspace: streams, sessions, configuration and what became of jobs, found by their own lists. Audit records outlive
 * their tenant. The tenant is shut out before, so that plain deletes meet no conditional writes.
 */
import type { Removal, TenantEraser } from "../../domain/control/erasure.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster, Statement } from "./database.ts"
import { eraseStreams, STREAM_LIST } from "./event-erasure.ts"
import { type JobTables, tablesOf } from "./job-tables.ts"
import { SessionIndex } from "./session-index.ts"
import { eraseSession, removeFiled } from "./session-sweep.ts"

/** Erases a tenant from every table of the daemon's own that is found by one list. */
interface Part {
  readonly what: string
  /** The tables of which one has a row for as long as there is anything. */
  lists(cql: Cluster, scope: CallScope): Promise<readonly string[]>
  erase(cql: Cluster, scope: CallScope): Promise<number>
}

const PARTS: readonly Part[] = [
  { what: "events", lists: async () => [STREAM_LIST], erase: eraseStreams },
  {
    what: "sessions",
    lists: async () => ["session_days where tenant = ? and owner = ''"],
    erase: eraseSessions,
  },
  { what: "configs", lists: async () => ["config_log_segments where tenant = ?"], erase: eraseConfigs },
  {
    what: "job_history",
    lists: async (cql, scope) => (await tablesOf(cql, scope)).map(({ spans }) => `${spans} where tenant = ?`),
    erase: eraseJobs,
  },
]

/** Erases from the keyspace; `store` names it in certificates. */
export function createCassandraTenantEraser(cql: Cluster, store: string): TenantEraser {
  return {
    store,
    holds: async (scope) => {
      for (const { lists } of PARTS) {
        for (const list of await lists(cql, scope)) {
          const statement = { cql: `select tenant from ${list} limit 1`, values: [scope.tenant] }
          if ((await cql.read(scope, statement)).length > 0) return true
        }
      }
      return false
    },
    erase: async (scope) => {
      const removals: Removal[] = []
      for (const { what, erase } of PARTS) {
        const count = await erase(cql, scope)
        if (count > 0) removals.push({ store, what, count })
      }
      return removals
    },
  }
}

/** The list goes last, so that a run that ends in the middle is finished by the next. */
async function eraseSessions(cql: Cluster, scope: CallScope): Promise<number> {
  const index = new SessionIndex(cql)
  const { tenant } = scope
  let count = 0
  const owners = new Set([""])
  for await (const { day } of rowsOf<{ day: string }>(cql, scope, {
    cql: "select day from session_days where tenant = ? and owner = ''",
    values: [tenant],
  })) {
    for await (const filed of index.filed(scope, day)) {
      if (filed.agent_id !== "") owners.add(`a:${filed.agent_id}`)
      if (filed.user_id !== "") owners.add(`u:${filed.user_id}`)
      if (await eraseSession(cql, index, scope, filed.session_id, 0)) count++
      // What an attempt that came to nothing has filed, too.
      await removeFiled(cql, index, scope, filed)
    }
  }
  for (const owner of owners) {
    await cql.write(scope, {
      cql: "delete from session_days where tenant = ? and owner = ?",
      values: [tenant, owner],
    })
  }
  return count
}

async function eraseConfigs(cql: Cluster, scope: CallScope): Promise<number> {
  const { tenant } = scope
  let count = 0
  for await (const { key } of rowsOf<{ key: string }>(cql, scope, {
    cql: "select key from config_heads where tenant = ?",
    values: [tenant],
  })) {
    await cql.write(scope, {
      cql: "delete from config_versions where tenant = ? and key = ?",
      values: [tenant, key],
    })
    count++
  }
  const segments: string[] = []
  for await (const { segment } of rowsOf<{ segment: string }>(cql, scope, {
    cql: "select segment from config_log_segments where tenant = ?",
    values: [tenant],
  })) {
    segments.push(segment)
  }
  // The newest first, and what stands before the first one last: a log that is there in part is begun by nobody.
  for (const segment of [...segments, ""]) {
    await cql.write(scope, {
      cql: "delete from config_log where tenant = ? and segment = ?",
      values: [tenant, segment],
    })
  }
  for (const table of ["config_heads", "config_log_segments"]) {
    await cql.write(scope, { cql: `delete from ${table} where tenant = ?`, values: [tenant] })
  }
  return count
}

/** What tells of a class goes last, too. */
async function eraseJobs(cql: Cluster, scope: CallScope): Promise<number> {
  let count = 0
  for (const tables of await tablesOf(cql, scope)) count += await eraseJobsIn(cql, scope, tables)
  await cql.write(scope, {
    cql: "delete from job_history_classes where tenant = ?",
    values: [scope.tenant],
  })
  return count
}

async function eraseJobsIn(
  cql: Cluster,
  scope: CallScope,
  { ends, byId, spans }: JobTables,
): Promise<number> {
  const { tenant } = scope
  let count = 0
  for await (const { span } of rowsOf<{ span: string }>(cql, scope, {
    cql: `select span from ${spans} where tenant = ?`,
    values: [tenant],
  })) {
    let last: string | undefined
    for await (const { job_id } of rowsOf<{ job_id: string }>(cql, scope, {
      cql: `select job_id from ${byId} where tenant = ? and span = ?`,
      values: [tenant, span],
    })) {
      // Once for each of its ends.
      if (job_id === last) continue
      last = job_id
      await cql.write(scope, {
        cql: `delete from ${ends} where tenant = ? and job_id = ?`,
        values: [tenant, job_id],
      })
      count++
    }
    await cql.write(scope, {
      cql: `delete from ${byId} where tenant = ? and span = ?`,
      values: [tenant, span],
    })
  }
  await cql.write(scope, { cql: `delete from ${spans} where tenant = ?`, values: [tenant] })
  return count
}

async function* rowsOf<R>(cql: Cluster, scope: CallScope, statement: Statement): AsyncGenerator<R> {
  for await (const page of cql.pages<R>(scope, statement)) yield* page
}
