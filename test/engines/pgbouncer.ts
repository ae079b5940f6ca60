/**
 * PgBouncer in transaction mode for tests: from the PATH, or installed with apt where we are root. Each transaction may run on another
 * connection of the server, and is made to: they take turns.
 */
import { execFile } from "node:child_process"
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import pg from "pg"
import { exited, isOver } from "../support/children.ts"
import { pathOf, skipReason, type Tool } from "../support/tools.ts"
import { account } from "./postgres-install.ts"
import { freePort, spawnTied } from "./tied-process.ts"

const run = promisify(execFile)
const READY_MS = 30_000

let tool: Promise<Tool> | undefined

function find(): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/sbin"]
  return folders.map((folder) => join(folder, "pgbouncer")).find((path) => existsSync(path))
}

async function install(): Promise<Tool> {
  const found = find()
  if (found !== undefined) return { path: found }
  if (account === undefined) return { missing: "pgbouncer is not installed" }
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    const options = { env, timeout: 300_000 }
    await run("apt-get", ["-o", "DPkg::Lock::Timeout=120", "install", "-y", "-qq", "pgbouncer"], options)
  } catch (error) {
    return { missing: `pgbouncer could not be installed: ${String(error).slice(0, 300)}` }
  }
  const path = find()
  return path === undefined ? { missing: "apt installed no pgbouncer" } : { path }
}

/** False, or why tests that need PgBouncer are skipped. Installs it where that is possible. */
export async function pgbouncerSkip(): Promise<string | false> {
  tool ??= install()
  return skipReason(await tool)
}

/** A running PgBouncer. */
export interface PgBouncer {
  /** The address of `database` through it. */
  url(database: string): string
  stop(): Promise<void>
}

/** Starts one in front of the server at `url`, which must trust its superuser. */
export async function startPgBouncer(url: string): Promise<PgBouncer> {
  const path = pathOf(await (tool ?? install()))
  const folder = mkdtempSync(join(tmpdir(), "keelplane-pgbouncer-"))
  const port = await freePort()
  const { hostname, port: serverPort, username } = new URL(url)
  const settings = [
    "[databases]",
    `* = host=${hostname} port=${serverPort} user=${username}`,
    "[pgbouncer]",
    "listen_addr = 127.0.0.1",
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
    "pool_mode = transaction",
    "default_pool_size = 8",
    "server_round_robin = 1",
    "server_login_retry = 1",
  ]
  writeFileSync(join(folder, "pgbouncer.ini"), `${settings.join("\n")}\n`)
  if (account !== undefined) chownSync(folder, account.uid, account.gid)
  const child = spawnTied(folder, path, ["pgbouncer.ini"])
  const bouncer: PgBouncer = {
    url: (database) => `postgres://${username}@127.0.0.1:${port}/${database}`,
    stop: async () => {
      if (!isOver(child)) {
        const ended = exited(child)
        process.kill(Number(readFileSync(join(folder, "server.pid"), "utf8")), "SIGKILL")
        await ended
      }
      rmSync(folder, { recursive: true, force: true })
    },
  }
  await answering(bouncer.url("postgres"), () => isOver(child))
  return bouncer
}

async function answering(url: string, isDead: () => boolean): Promise<void> {
  for (const until = Date.now() + READY_MS; Date.now() < until && !isDead(); ) {
    const client = new pg.Client({ connectionString: url })
    client.on("error", () => undefined)
    try {
      await client.connect()
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    } finally {
      await client.end()
    }
  }
  throw new Error(`PgBouncer does not answer at ${url}`)
}
