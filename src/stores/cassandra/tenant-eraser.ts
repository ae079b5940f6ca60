/**
 * The end of a tenant in a keyspace: streams, sessions, configuration and what became of jobs, found by their own lists. Audit records outlive
 * their tenant. The tenant is shut out before, so that plain deletes meet no conditional writes.
 */
import type { Removal, TenantEraser } from "../../domain/control/erasure.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster, Statement } from "./database.ts"
import { eraseStreams, STREAM_LIST } from "./event-erasure.ts"
import { SessionIndex } from "./session-index.ts"
import { eraseSession, removeFiled } from "./session-sweep.ts"

/** Erases a tenant from every table of the daemon's own that is found by one list. */
interface Part {
  readonly what: string
  /** A table with a row for as long as there is anything. */
  readonly list: string
  erase(cql: Cluster, scope: CallScope): Promise<number>
}

const PARTS: readonly Part[] = [
  { what: "events", list: STREAM_LIST, erase: eraseStreams },
  { what: "sessions", list: "session_days where tenant = ? and owner = ''", erase: eraseSessions },
  { what: "configs", list: "config_log_segments where tenant = ?", erase: eraseConfigs },
  { what: "job_history", list: "job_history_spans where tenant = ?", erase: eraseJobs },
]

/** Erases from the keyspace; `store` names it in certificates. */
export function createCassandraTenantEraser(cql: Cluster, store: string): TenantEraser {
  return {
    store,
    holds: async (scope) => {
      for (const { list } of PARTS) {
        const [row] = await cql.read(scope, {
          cql: `select tenant from ${list} limit 1`,
          values: [scope.tenant],
        })
        if (row !== undefined) return true
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

async function eraseJobs(cql: Cluster, scope: CallScope): Promise<number> {
  const { tenant } = scope
  let count = 0
  for await (const { span } of rowsOf<{ span: string }>(cql, scope, {
    cql: "select span from job_history_spans where tenant = ?",
    values: [tenant],
  })) {
    let last: string | undefined
    for await (const { job_id } of rowsOf<{ job_id: string }>(cql, scope, {
      cql: "select job_id from job_history_by_id where tenant = ? and span = ?",
      values: [tenant, span],
    })) {
      // Once for each of its ends.
      if (job_id === last) continue
      last = job_id
      await cql.write(scope, {
        cql: "delete from job_history where tenant = ? and job_id = ?",
        values: [tenant, job_id],
      })
      count++
    }
    await cql.write(scope, {
      cql: "delete from job_history_by_id where tenant = ? and span = ?",
      values: [tenant, span],
    })
  }
  await cql.write(scope, { cql: "delete from job_history_spans where tenant = ?", values: [tenant] })
  return count
}

async function* rowsOf<R>(cql: Cluster, scope: CallScope, statement: Statement): AsyncGenerator<R> {
  for await (const page of cql.pages<R>(scope, statement)) yield* page
}
