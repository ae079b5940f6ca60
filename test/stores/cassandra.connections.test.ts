/** Connections to a cluster behind a bad network: none stays open that nobody uses, and none is made by what nobody knows any more. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { type CassandraEngine, openCassandra } from "../../src/stores/cassandra/index.ts"
import { administer, cassandraHosts, cassandraSkip, freshKeyspace } from "../engines/cassandra.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"

/** More than the listeners that an emitter takes without a warning. */
const OUTAGES = 16
const HELD_MS = 400
const CONNECT_MS = 300
const LATER_MS = 6_000
const PATIENCE_MS = 60_000
/** One for the control connection, one for statements, one more for either that is being replaced. */
const MOST_CONNECTIONS = 4

describe("connections through outages", { skip: cassandraSkip, timeout: 300_000 }, () => {
  const keyspace = freshKeyspace()
  let hosts: string
  let proxy: TcpProxy
  let engine: CassandraEngine
  before(async () => {
    hosts = await cassandraHosts()
    proxy = await TcpProxy.to(Number(new URL(hosts.replace(/^\w+:/, "http:")).port))
    const url = `cassandra://127.0.0.1:${proxy.port}/${keyspace}?replication=1`
    engine = openCassandra({ url, connectMs: CONNECT_MS, timeoutMs: 1_000 })
    await engine.migrate()
  })
  after(async () => {
    await engine?.close()
    await proxy?.close()
    await administer(hosts, `drop keyspace if exists ${keyspace}`)
  })

  const answers = () =>
    engine.ping({ ...systemScope(), deadlineMs: Date.now() + 1_000 }).then(
      () => true,
      () => false,
    )

  it("do not add up, and neither do those who listen to them", async (t) => {
    const warnings: string[] = []
    const note = (warning: Error) => warnings.push(`${warning.name}: ${warning.message}`)
    process.on("warning", note)
    t.after(() => process.off("warning", note))
    for (let outage = 0; outage < OUTAGES; outage++) {
      const isRefused = outage % 4 === 3
      if (isRefused) await proxy.refuse()
      proxy.cut()
      proxy.hold()
      const calls = Array.from({ length: 20 }, answers)
      await new Promise((resolve) => setTimeout(resolve, HELD_MS * (1 + (outage % 3))))
      proxy.release()
      if (isRefused) await proxy.accept()
      if (outage % 2 === 0) proxy.cut()
      await Promise.all(calls)
      await until("the cluster answers", answers, PATIENCE_MS)
    }
    // By then whoever still tries to connect on his own has done so.
    await new Promise((resolve) => setTimeout(resolve, LATER_MS))
    t.diagnostic(`${proxy.connections} connections, ${JSON.stringify(engine.stats())}`)
    await until("what is not used is closed", () => proxy.connections <= MOST_CONNECTIONS, PATIENCE_MS)
    assert.deepEqual(warnings, [])
  })
})
