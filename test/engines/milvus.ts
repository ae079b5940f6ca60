/**
 * Milvus for tests: the server that KEELPLANE_TEST_MILVUS_URL names, else 2.3.5 out of a pinned package, one for all test files; and Milvus
 * Lite 3.2 for what 2.3 does not know. Each suite has names of its own on the server, so that they do not meet.
 */
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after } from "node:test"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { type MilvusEngine, type MilvusOptions, openMilvus } from "../../src/stores/milvus/index.ts"
import { freePort } from "../support/free-ports.ts"
import { pathOf, skipReason } from "../support/tools.ts"
import { until } from "../support/until.ts"
import { milvusLiteTool, milvusServerTool } from "./milvus-install.ts"
import { leaseMilvus } from "./milvus-server.ts"

export { freePort } from "../support/free-ports.ts"

const given = process.env.KEELPLANE_TEST_MILVUS_URL
const server = given === undefined ? await milvusServerTool() : { path: "" }
const lite = await milvusLiteTool()

/** What is ended after the test file's tests, last first. Hooks made inside hooks would end with them. */
const endings: (() => Promise<void>)[] = []
after(async () => {
  for (const end of endings.reverse()) await end()
})

/** Does something after the test file's tests. */
export function atMilvusEnd(work: () => Promise<void>): void {
  endings.push(work)
}

/** A server that suites share. */
export interface MilvusServer {
  readonly name: string
  /** False, or why it cannot be had. */
  readonly skip: string | false
  url(): Promise<string>
}

const LITE_START_MS = 240_000

let standaloneUrl: Promise<string> | undefined
let liteUrl: Promise<string> | undefined

/** Milvus itself. */
export const milvusStandalone: MilvusServer = {
  name: given === undefined ? "Milvus 2.3.5" : "Milvus",
  skip: skipReason(server),
  url: () => {
    standaloneUrl ??= given === undefined ? joined() : Promise.resolve(given)
    return standaloneUrl
  },
}

/** Milvus Lite, one per test file. */
export const milvusLite: MilvusServer = {
  name: "Milvus Lite 3.2.2",
  skip: skipReason(lite),
  url: () => {
    liteUrl ??= startMilvusLite().then(({ url }) => url)
    return liteUrl
  },
}

async function joined(): Promise<string> {
  const { address, end } = await leaseMilvus(pathOf(server))
  endings.push(async () => end())
  return address
}

const LITE_MAIN = `
import signal, sys
signal.signal(signal.SIGTERM, signal.default_int_handler)
from milvus_lite.cmdline import main
sys.exit(main(sys.argv[1:]))
`

/** Starts a Milvus Lite of the test's own, which it may stop; else it is stopped after the test file's tests. */
export async function startMilvusLite(): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "keelplane-milvus-lite-"))
  const port = await freePort()
  const args = ["server", "--data-dir", join(folder, "data"), "--host", "127.0.0.1", "--port", String(port)]
  const child = spawn("python3", ["-c", LITE_MAIN, ...args, "--max-workers", "10"], {
    cwd: folder,
    stdio: "ignore",
    env: { ...process.env, PYTHONPATH: pathOf(lite), OMP_NUM_THREADS: "1" },
  })
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  process.once("exit", () => child.kill("SIGKILL"))
  const stop = async () => {
    child.kill("SIGKILL")
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  endings.push(stop)
  const url = `milvus://127.0.0.1:${port}`
  const engine = openMilvus({ url })
  try {
    await until(
      "Milvus Lite answers",
      async () => {
        if (child.exitCode !== null) throw new Error("Milvus Lite ended")
        try {
          await engine.ping({ ...systemScope(), deadlineMs: Date.now() + 2_000 })
          return true
        } catch {
          return false
        }
      },
      LITE_START_MS,
    )
  } finally {
    await engine.close()
  }
  return { url, stop }
}

/** An engine with names of its own on the server; they are removed, and it is closed, after the tests. */
export async function testMilvus(
  on: MilvusServer,
  options: Partial<MilvusOptions> = {},
): Promise<MilvusEngine> {
  const prefix = `t${randomUUID().replaceAll("-", "")}`
  const engine = openMilvus({ url: await on.url(), prefix, ...options })
  endings.push(async () => {
    await engine.reset({ ...systemScope(), deadlineMs: Date.now() + 60_000 })
    await engine.close()
  })
  return engine
}
