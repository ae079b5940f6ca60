/** What only a cluster can do to a store: be away, be slow, be older or newer, refuse. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { cassandraSkip, testCassandra } from "../engines/cassandra.ts"

describe("cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  it("makes its keyspace and tables once", async () => {
    const engine = await testCassandra()
    await engine.ping(systemScope())
    assert.deepEqual(await engine.migrate(), [])
    const migrations = await engine.listMigrations()
    assert.ok(migrations.length > 0)
    for (const { appliedAt } of migrations) assert.ok(appliedAt instanceof Date)
    assert.equal(engine.stats().connected, true)
  })
})
