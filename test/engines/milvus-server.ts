/**
 * The server for all test files of a run. Its etcd listens on two fixed ports, so there is one to a machine: who needs it first starts
 * it, everybody signs in, and the last to sign out ends it.
 */
import { spawn } from "node:child_process"
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { until } from "../support/until.ts"

const HOME = join(tmpdir(), `keelplane-milvus-${process.getuid?.() ?? 0}`)
const LOCK = `${HOME}.lock`
const USERS = join(HOME, "users")
const ME = join(USERS, String(process.pid))
const START_MS = 180_000
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

interface Running {
  readonly pid: number
  readonly port: number
}

/** Where the server is; starts it where it does not run. */
export async function joinMilvus(tool: string): Promise<string> {
  return locked(async () => {
    const known = running()
    const server = known ?? (await start(tool))
    mkdirSync(USERS, { recursive: true })
    writeFileSync(ME, "")
    return `milvus://127.0.0.1:${server.port}`
  })
}

/** Signs out, and ends the server that nobody else uses. */
export function leaveMilvus(): Promise<void> {
  return locked(async () => {
    rmSync(ME, { force: true })
    if (users().length > 0) return
    end()
  })
}

function end(): void {
  const server = running()
  if (server !== undefined) process.kill(server.pid, "SIGKILL")
  rmSync(HOME, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
}

/** Those who signed in and still live. */
function users(): readonly number[] {
  if (!existsSync(USERS)) return []
  return readdirSync(USERS)
    .map(Number)
    .filter((pid) => isAlive(pid))
}

function running(): Running | undefined {
  const path = join(HOME, "server.json")
  if (!existsSync(path)) return undefined
  const server = JSON.parse(readFileSync(path, "utf8")) as Running
  return isAlive(server.pid) ? server : undefined
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    // A child that has ended and was not waited for still has its number.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

/** One process at a time; a lock whose holder is gone is nobody's. */
async function locked<T>(work: () => Promise<T>): Promise<T> {
  await until(
    "the lock of the shared Milvus",
    () => {
      try {
        mkdirSync(LOCK)
        return true
      } catch {
        const [holder] = existsSync(LOCK) ? readdirSync(LOCK) : []
        if (holder !== undefined && !isAlive(Number(holder))) rmSync(LOCK, { recursive: true, force: true })
        return false
      }
    },
    2 * START_MS,
  )
  writeFileSync(join(LOCK, String(process.pid)), "")
  try {
    return await work()
  } finally {
    rmSync(LOCK, { recursive: true, force: true })
  }
}

async function start(tool: string): Promise<Running> {
  rmSync(HOME, { recursive: true, force: true })
  for (const folder of ["configs", "logs", "data"]) mkdirSync(join(HOME, folder), { recursive: true })
  const first = await freePorts(PARTS.length + 2)
  const metrics = first + PARTS.length + 1
  writeFileSync(join(HOME, "configs", "milvus.yaml"), configuration(tool, first))
  copyFileSync(join(tool, "glog.conf"), join(HOME, "configs", "glog.conf"))
  const log = openSync(join(HOME, "server.log"), "w")
  const child = spawn(join(tool, "bin", "milvus"), ["run", "standalone"], {
    cwd: HOME,
    detached: true,
    stdio: ["ignore", log, log],
    env: {
      ...process.env,
      LD_LIBRARY_PATH: join(tool, "bin"),
      DEPLOY_MODE: "STANDALONE",
      METRICS_PORT: String(metrics),
      MILVUS_RUN_DIR: join(HOME, "run"),
      MILVUSCONF: join(HOME, "configs"),
    },
  })
  child.unref()
  const server = { pid: child.pid ?? 0, port: first + PARTS.length }
  writeFileSync(join(HOME, "server.json"), JSON.stringify(server))
  await until(
    "Milvus is healthy",
    async () => {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`Milvus ended: ${readFileSync(join(HOME, "server.log"), "utf8").slice(-2_000)}`)
      }
      try {
        const answer = await fetch(`http://127.0.0.1:${metrics}/healthz`, {
          signal: AbortSignal.timeout(2_000),
        })
        return (await answer.text()) === "OK"
      } catch {
        return false
      }
    },
    START_MS,
  )
  return server
}

/** The package's own configuration with our ports, everything on loopback, and a short tick, which Strong reads wait for. */
function configuration(tool: string, first: number): string {
  const values: Record<string, string> = {
    proxy_port: String(first + PARTS.length),
    etcd_log_level: "error",
    etcd_log_path: join(HOME, "logs", "etcd.log"),
    system_log_path: "",
    etcd_data_dir: join(HOME, "data", "etcd.data"),
    local_storage_dir: join(HOME, "data"),
    rocksmq_data_dir: join(HOME, "data", "rocksmq"),
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
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(false))
    server.listen(port, () => server.close(() => resolve(true)))
  })
}
