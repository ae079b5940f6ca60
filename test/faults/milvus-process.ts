/** Milvus Lite as a process that can be stopped, killed and started again on its data. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { openMilvus } from "../../src/stores/milvus/index.ts"
import { freePort } from "../engines/milvus.ts"
import { endWithProcess, isOver, killed } from "../support/children.ts"
import { until } from "../support/until.ts"

const MAIN = "import sys; from milvus_lite.cmdline import main; sys.exit(main(sys.argv[1:]))"
const PING_MS = 5_000
const START_MS = 120_000

/** See the head of this file. */
export class MilvusProcess {
  readonly port: number
  readonly #packages: string
  readonly #folder = mkdtempSync(join(tmpdir(), "keelplane-milvus-lite-"))
  #child: ChildProcess | undefined

  private constructor(port: number, packages: string) {
    this.port = port
    this.#packages = packages
  }

  /** A started server; `packages` is the folder that has it. */
  static async start(packages: string): Promise<MilvusProcess> {
    const server = new MilvusProcess(await freePort(), packages)
    try {
      await server.start()
      return server
    } catch (error) {
      await server.remove()
      throw error
    }
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Starts it on the data it has; resolves when it answers. */
  async start(): Promise<void> {
    const place = [
      "--data-dir",
      join(this.#folder, "data"),
      "--host",
      "127.0.0.1",
      "--port",
      String(this.port),
    ]
    const child = spawn("python3", ["-c", MAIN, "server", ...place, "--max-workers", "10"], {
      cwd: this.#folder,
      stdio: "ignore",
      env: { ...process.env, PYTHONPATH: this.#packages, OMP_NUM_THREADS: "1" },
    })
    endWithProcess(child)
    this.#child = child
    await until(
      "Milvus Lite answers",
      () => {
        if (isOver(child)) throw new Error("Milvus Lite has ended")
        return answers(this.port)
      },
      START_MS,
    )
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
}

/** By a client of its own each time: one that met nobody would wait longer and longer before it looks again. */
async function answers(port: number): Promise<boolean> {
  const engine = openMilvus({ url: `milvus://127.0.0.1:${port}` })
  try {
    await engine.ping({ ...systemScope(), deadlineMs: Date.now() + PING_MS })
    return true
  } catch {
    return false
  } finally {
    await engine.close()
  }
}
