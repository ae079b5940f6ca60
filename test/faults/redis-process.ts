/** A Redis server that keeps its data on disk, and can be killed and started again on them. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Redis } from "ioredis"
import { freePort, serverPath } from "../engines/redis.ts"
import { endWithProcess, isOver, killed } from "../support/children.ts"
import { until } from "../support/until.ts"

/** See the head of this file. */
export class RedisProcess {
  readonly port: number
  readonly #folder = mkdtempSync(join(tmpdir(), "keelplane-redis-"))
  readonly #password: string
  #child: ChildProcess | undefined

  private constructor(port: number, password: string) {
    this.port = port
    this.#password = password
  }

  /** A started server whose default user has this password. */
  static async start(password: string): Promise<RedisProcess> {
    const server = new RedisProcess(await freePort(), password)
    await server.start()
    return server
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Starts it on the data it has; resolves when it answers. */
  async start(): Promise<void> {
    const settings = {
      bind: "127.0.0.1",
      port: String(this.port),
      dir: this.#folder,
      save: "",
      appendonly: "yes",
      appendfsync: "always",
      requirepass: this.#password,
      masterauth: this.#password,
    }
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
    const child = spawn(serverPath(), args, { stdio: "ignore" })
    endWithProcess(child)
    this.#child = child
    await until("Redis answers", async () => {
      if (isOver(child)) throw new Error("the Redis server has ended")
      try {
        await this.command("ping")
        return true
      } catch {
        return false
      }
    })
  }

  /** Kills it. Its data stay. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child !== undefined) await killed(child)
  }

  /** Kills it and removes its data. */
  async remove(): Promise<void> {
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** One command of its administrator. */
  async command(name: string, ...args: readonly string[]): Promise<unknown> {
    const options = { lazyConnect: true, retryStrategy: () => null, maxRetriesPerRequest: 0 }
    const client = new Redis({ ...options, host: "127.0.0.1", port: this.port, password: this.#password })
    client.on("error", () => undefined)
    try {
      await client.connect()
      return await client.call(name, ...args)
    } finally {
      client.disconnect()
    }
  }
}
