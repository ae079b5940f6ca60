/**
 * Keeps one node of Cassandra for all test files of a machine.
 *
 * Usage: node cassandra-keeper.ts SOCKET JAVA JARS
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { freePorts } from "../support/free-ports.ts"
import { startNode } from "./cassandra-node.ts"
import { keep } from "./keeper.ts"

const HEAP_MB = 512

const [, , name = "", java = "", jars = ""] = process.argv

keep(name, async () => {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-cassandra-"))
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  const [cqlPort = 0, storagePort = 0] = await freePorts("127.0.0.1", 2)
  const ip = "127.0.0.1"
  const node = await startNode({
    java,
    jars,
    folder,
    ip,
    cqlPort,
    storagePort,
    seed: ip,
    place: [0, 1],
    heapMb: HEAP_MB,
  })
  return { address: `${ip}:${cqlPort}`, stop: node.stop }
})
