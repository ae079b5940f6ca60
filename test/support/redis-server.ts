/** Starts Redis or Valkey servers that end with the process that started them. */
import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import { endWithProcess, isOver, killed } from "./children.ts"
import { freePort } from "./free-ports.ts"

export { freePort } from "./free-ports.ts"
export { serverTool } from "./redis-install.ts"

const READY_MS = 20_000

/** A server that was started here and may be stopped. */
export interface RedisServer {
  readonly url: string
  readonly pid: number
  /** Where its files are; emptied when it stops. */
  readonly folder: string
  stop(): Promise<void>
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
  const stop = async () => {
    await killed(child)
    rmSync(folder, { recursive: true, force: true })
  }
  endWithProcess(child)
  const url = `redis://127.0.0.1:${on}`
  await answering(password === undefined ? url : url.replace("://", `://:${password}@`), () => isOver(child))
  return { url, pid: child.pid ?? 0, folder, stop }
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
