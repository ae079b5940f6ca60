/** The server for all test files of a run. Its etcd listens on two fixed ports, so there is one to a machine. */
import { type ChildProcess, spawn } from "node:child_process"
import { copyFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { exited, isOver } from "../support/children.ts"
import { until } from "../support/until.ts"
import { type Kept, type Lease, leaseKept } from "./keeper.ts"

const KEEPER = fileURLToPath(new URL("./milvus-keeper.ts", import.meta.url))
const START_MS = 180_000
/** Where every Milvus of this kind has its etcd. */
const FIXED_PORTS = [2379, 2380]
/** The login that every new server has. */
const LOGIN = "root:Milvus"
/** Ports of its parts, one after the other. */
const PARTS = [
  "proxy_internal_port",
  "etcd_port",
  "root_coord_port",
  "query_coord_port",
  "query_node_port",
  "index_coord_port",
  "index_node_port",
  "data_coord_port",
  "data_node_port",
]

/** The URL of the server that runs, for as long as anybody needs it. */
export function leaseMilvus(tool: string): Promise<Lease> {
  return leaseKept(`keelplane-test-milvus-${process.getuid?.() ?? 0}`, KEEPER, [tool], 3 * START_MS)
}

/** Starts the server; it ends with the process that does so, however that ends. */
export async function startMilvus(tool: string): Promise<Kept> {
  await until(
    `nobody listens on ${FIXED_PORTS.join(" and ")}`,
    async () => (await Promise.all(FIXED_PORTS.map(isFree))).every(Boolean),
    START_MS,
  )
  const folder = mkdtempSync(join(tmpdir(), "keelplane-milvus-"))
  for (const name of ["configs", "logs", "data"]) mkdirSync(join(folder, name))
  const first = await freePorts(PARTS.length + 2)
  const metrics = first + PARTS.length + 1
  writeFileSync(join(folder, "configs", "milvus.yaml"), configuration(tool, folder, first))
  copyFileSync(join(tool, "glog.conf"), join(folder, "configs", "glog.conf"))
  const child = spawned(tool, folder, metrics)
  const stop = async () => {
    child.stdin?.end()
    await exited(child)
    rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
  }
  try {
    await until("Milvus is healthy", () => isHealthy(child, metrics), START_MS)
  } catch (error) {
    const log = readFileSync(join(folder, "server.log"), "utf8").slice(-2_000)
    await stop()
    throw new Error(`no Milvus: ${log}`, { cause: error })
  }
  return { address: `milvus://${LOGIN}@127.0.0.1:${first + PARTS.length}`, stop }
}

/** A shell that waits for the server. It outlives us: its input ends then, and with it server and files. */
function spawned(tool: string, folder: string, metrics: number): ChildProcess {
  const log = openSync(join(folder, "server.log"), "w")
  const script = `exec 3<&0
    "$0" run standalone </dev/null 3<&- & server=$!
    { read -r _; touch orphaned; kill -KILL $server; } <&3 & watch=$!
    wait $server; kill $watch; if [ -e orphaned ]; then rm -rf "$PWD"; fi`
  return spawn("sh", ["-c", script, join(tool, "bin", "milvus")], {
    cwd: folder,
    detached: true,
    stdio: ["pipe", log, log],
    env: {
      ...process.env,
      LD_LIBRARY_PATH: join(tool, "bin"),
      DEPLOY_MODE: "STANDALONE",
      METRICS_PORT: String(metrics),
      MILVUS_RUN_DIR: join(folder, "run"),
      MILVUSCONF: join(folder, "configs"),
    },
  })
}

async function isHealthy(child: ChildProcess, metrics: number): Promise<boolean> {
  if (isOver(child)) throw new Error("it ended")
  try {
    const answer = await fetch(`http://127.0.0.1:${metrics}/healthz`, { signal: AbortSignal.timeout(2_000) })
    return (await answer.text()) === "OK"
  } catch {
    return false
  }
}

/** The package's own configuration with our ports, everything on loopback, and a short tick, which Strong reads wait for. */
function configuration(tool: string, folder: string, first: number): string {
  const values: Record<string, string> = {
    proxy_port: String(first + PARTS.length),
    authorization_enabled: "true",
    etcd_log_level: "error",
    etcd_log_path: join(folder, "logs", "etcd.log"),
    system_log_path: "",
    etcd_data_dir: join(folder, "data", "etcd.data"),
    local_storage_dir: join(folder, "data"),
    rocksmq_data_dir: join(folder, "data", "rocksmq"),
    ...Object.fromEntries(PARTS.map((name, i) => [name, String(first + i)])),
  }
  return readFileSync(join(tool, "config.yaml.template"), "utf8")
    .replace(/\{\{(.*?)\}\}/g, (_, inner: string) => {
      const [key = "", ...rest] = inner.split(":")
      return values[key.split("(")[0]?.trim() ?? ""] ?? rest.join(":").trim()
    })
    .replace(/^(\s+)ip:\s*(#.*)?$/gm, "$1ip: 127.0.0.1")
    .replaceAll("endpoints: localhost:", "endpoints: 127.0.0.1:")
    .replaceAll("address: localhost:", "address: 127.0.0.1:")
    .replace(/^(log:\n(?:\s+.*\n)*?\s+level:) \w+/m, "$1 warn")
    .replace(/^(\s+timeTickInterval:) \d+/gm, "$1 50")
    .replace(/^(\s+gracefulStopTimeout:) \d+/gm, "$1 10")
    .replace(/^(\s+session:\n\s+ttl:) \d+/gm, "$1 5")
}

/** The first of so many free ports in a row. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 10_000)
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)))
    if (free.every(Boolean)) return first
  }
}

/** Whether nobody listens on the port, on any interface, for that is where the server's parts will. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, () => server.close(() => resolve(true)))
  })
}
