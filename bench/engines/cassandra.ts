/** Cassandra: events. */
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import cassandraDriver from "cassandra-driver"
import { cassandraJars, java } from "../../test/engines/cassandra-install.ts"
import { type RunningNode, startNode } from "../../test/engines/cassandra-node.ts"
import { freePorts } from "../../test/support/free-ports.ts"
import { pathOf } from "../../test/support/tools.ts"
import type { Engine } from "./engine.ts"
import { appends } from "./events.ts"

const HEAP_MB = 1_024

async function startOwn(): Promise<RunningNode> {
  const [program, jars] = [pathOf(await java()), pathOf(await cassandraJars())]
  const folder = mkdtempSync(join(tmpdir(), "keelplane-bench-cassandra-"))
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  const ip = "127.0.0.1"
  const [cqlPort = 0, storagePort = 0] = await freePorts(ip, 2)
  const plan = { java: program, jars, folder, ip, cqlPort, storagePort, seed: ip, heapMb: HEAP_MB }
  return startNode({ ...plan, place: [0, 1] })
}

async function drop(hosts: string, keyspace: string): Promise<void> {
  const client = new cassandraDriver.Client({
    contactPoints: [new URL(hosts.replace(/^\w+:/, "http:")).host],
    localDataCenter: "datacenter1",
  })
  for (const name of [keyspace, `${keyspace}_bare`]) {
    await client.execute(`drop keyspace if exists ${name}`, [], { readTimeout: 60_000 })
  }
  await client.shutdown()
}

/** See the file's comment. */
export const cassandra: Engine = {
  name: "cassandra",
  bare: "cassandra",
  async start() {
    const given = process.env.KEELPLANE_TEST_CASSANDRA_URL?.replace(/^(\w+:\/\/[^/]+).*$/, "$1")
    const node = given === undefined ? await startOwn() : undefined
    const hosts = given ?? `cassandra://${node?.ip}:${node?.cqlPort}`
    const keyspace = `bench_${randomUUID().slice(0, 8)}`
    const url = `${hosts}/${keyspace}`
    return {
      url,
      env: { KEELPLANE_STORES__EVENTS__URL: `${url}?replication=1` },
      prepare: async () => undefined,
      works: appends({ own: "appendUnfed", one: "appendToOneUnfed" }),
      stop: async () => {
        if (node === undefined) await drop(hosts, keyspace)
        else await node.stop()
      },
    }
  },
}
