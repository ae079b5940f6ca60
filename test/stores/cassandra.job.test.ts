/** The job history's suite on Cassandra. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { endedJob, jobHistoryContract } from "../contract/job-history.contract.ts"
import { HISTORY_CLASSES, jobHistoryClassesContract } from "../contract/retention.contract.ts"
import { cassandraSkip, freshTenant, testCassandra } from "../engines/cassandra.ts"
import { heldClock } from "../engines/sql-suites.ts"
import { lossyCluster } from "./cassandra-faults.ts"

describe("on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let opened: Promise<CassandraEngine> | undefined
  const engine = (): Promise<CassandraEngine> => {
    opened ??= testCassandra({ jobLives: HISTORY_CLASSES })
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

  jobHistoryClassesContract(async (lives) => {
    const clock = heldClock()
    const history = createCassandraJobHistory({ cql: (await engine()).session, clock, lives })
    return { history, freshTenant, clock }
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
