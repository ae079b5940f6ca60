/** The job history's suite on Cassandra, and how its tables are made. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { endedJob, jobHistoryContract } from "../contract/job-history.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { lossyCluster } from "./cassandra-faults.ts"

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const engine = (): Promise<CassandraEngine> => {
    opened ??= testCassandra()
    return opened
  }
  jobHistoryContract(async () => {
    const clock = heldClock()
    return {
      history: createCassandraJobHistory({ cql: (await engine()).session, clock }),
      freshTenant,
      clock,
    }
  })

  it("has a year's TTL on every row of a job, and lets no span of ids go before its jobs", async () => {
    const { session: cql } = await engine()
    const history = createCassandraJobHistory({ cql })
    const scope = systemScope(freshTenant())
    await history.append(scope, [endedJob("a", Date.now())])
    const ttls = await Promise.all(
      ["ttl(head) as ttl from job_history", "ttl(head) as ttl from job_history_by_id"].map(async (what) => {
        const [row] = await cql.read<{ ttl: number }>(scope, {
          cql: `select ${what} where tenant = ? allow filtering`,
          values: [scope.tenant],
        })
        return row?.ttl ?? 0
      }),
    )
    const year = 365 * 86_400
    for (const ttl of ttls) assert.ok(ttl > year - 600 && ttl <= year, `${ttl}`)
    const lives = await cql.read<{ table_name: string; default_time_to_live: number }>(scope, {
      cql: "select table_name, default_time_to_live from system_schema.tables",
    })
    const spans = lives.filter(({ table_name }) => table_name === "job_history_spans")
    assert.ok(spans.length > 0)
    for (const { default_time_to_live } of spans) assert.ok(default_time_to_live > year + 86_400)
  })

  it("is told again what it was told only in part", async () => {
    const { session } = await engine()
    const { cql, losses } = lossyCluster(session)
    const history = createCassandraJobHistory({ cql })
    const scope = systemScope(freshTenant())
    const jobs = [endedJob("a", Date.now()), endedJob("b", Date.now())]
    losses.refuse = "insert into job_history_by_id"
    await assert.rejects(history.append(scope, jobs))
    losses.refuse = ""
    await history.append(scope, jobs)
    const { items } = await history.list(scope, { statuses: [], full: false }, { size: 9 })
    assert.deepEqual(
      items.map(({ id }) => id),
      ["b", "a"],
    )
  })
})
