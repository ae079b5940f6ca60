/**
 * Keeps one node of Cassandra for all test files of a machine: a process of its own, started by whoever needs it first, and
 * found by an abstract socket, which only one process can have and which vanishes with it. Each test process holds a connection;
 * the node ends some seconds after the last one is gone, however it went.
 *
 * Usage: node cassandra-keeper.ts SOCKET JAVA JARS
 */
import { mkdtempSync, rmSync } from "node:fs"
import { createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { type RunningNode, startNode } from "./cassandra-node.ts"
import { freePorts } from "./free-ports.ts"

/** Test files run one after the other: the next one may come some time after the last one went. */
const LINGER_MS = 15_000
const HEAP_MB = 512

const [, , name = "", java = "", jars = ""] = process.argv
const clients = new Set<Socket>()
let node: Promise<RunningNode> | undefined
let linger: NodeJS.Timeout | undefined

const server = createServer((socket) => {
  clients.add(socket)
  clearTimeout(linger)
  socket.on("error", () => socket.destroy())
  socket.on("close", () => {
    clients.delete(socket)
    if (clients.size === 0) wait()
  })
  socket.resume()
  node ??= start()
  node.then(
    ({ ip, cqlPort }) => socket.write(`${JSON.stringify({ address: `${ip}:${cqlPort}` })}\n`),
    (error: unknown) => {
      socket.end(`${JSON.stringify({ failure: String(error) })}\n`)
      wait()
    },
  )
})

function wait(): void {
  clearTimeout(linger)
  linger = setTimeout(() => void finish(), LINGER_MS)
}

async function finish(): Promise<void> {
  // Who comes now finds nobody and starts a keeper of his own.
  server.close()
  await Promise.allSettled([node?.then((running) => running.stop())])
  process.exit(0)
}

async function start(): Promise<RunningNode> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-cassandra-"))
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }))
  const [cqlPort = 0, storagePort = 0] = await freePorts("127.0.0.1", 2)
  const ip = "127.0.0.1"
  return startNode({
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
}

// Another keeper was faster.
server.on("error", () => process.exit(0))
server.listen(`\0${name}`, wait)
