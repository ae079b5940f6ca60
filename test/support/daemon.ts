/** Starts the built daemon as a process of its own, on free ports and a throwaway data directory. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { freePort } from "./free-ports.ts"
import { type Channel, connect } from "./grpc-client.ts"

export { freePort } from "./free-ports.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))

/** How to start it. */
export interface DaemonOptions {
  /** Kept after stop when given; else a new one that stop removes. */
  readonly dataDir?: string
  /** More flags of `keelplane serve`. */
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** How long it may take to become ready, in milliseconds. Generous: machines are shared. */
  readonly readyTimeoutMs?: number
}

/** A running daemon. */
export interface Daemon {
  /** `127.0.0.1:PORT` of the data port. */
  readonly address: string
  /** `127.0.0.1:PORT` of the ops port. */
  readonly opsAddress: string
  readonly dataDir: string
  readonly process: ChildProcess
  /** Milliseconds from spawn to ready. */
  readonly readyMs: number
  /** Everything it has printed so far, both streams. */
  output(): string
  /** A new channel; the caller closes it. */
  channel(headers?: Readonly<Record<string, string>>): Channel
  /** Sends a signal and resolves with the exit code (null when the signal killed it). */
  end(signal?: NodeJS.Signals): Promise<number | null>
  /** Ends it and removes a throwaway data directory. */
  stop(): Promise<void>
}

/** Waits until `condition` holds; fails with `what` after the limit. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  limitMs = 60_000,
): Promise<void> {
  const end = Date.now() + limitMs
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${limitMs} ms in vain for: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The environment without what is a daemon's configuration, such as the variables that tests are told of engines by. */
export function foreignEnvironment(): NodeJS.ProcessEnv {
  const names = Object.entries(process.env)
  return Object.fromEntries(
    names.filter(([name]) => !name.startsWith("KEELPLANE_") && !name.startsWith("OTEL_")),
  )
}

/** Starts a daemon and waits until /readyz says so. */
export async function startDaemon(options: DaemonOptions = {}): Promise<Daemon> {
  const dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), "keelplane-test-"))
  const [data, ops] = [await freePort(), await freePort()]
  const flags = ["--data-dir", dataDir, "--listen", `127.0.0.1:${data}`, "--ops-listen", `127.0.0.1:${ops}`]
  const environment = foreignEnvironment()
  const started = performance.now()
  const child = spawn(process.execPath, [main, "serve", ...flags, ...(options.args ?? [])], {
    env: { ...environment, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  })
  let text = ""
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    text += chunk.toString()
  })
  const exited = once(child, "exit").then(([code]) => code as number | null)
  const ended = () => child.exitCode !== null || child.signalCode !== null
  try {
    await until(
      async () => {
        if (ended()) throw new Error("the daemon ended before it was ready")
        return fetch(`http://127.0.0.1:${ops}/readyz`).then(
          (response) => response.ok,
          () => false,
        )
      },
      "the daemon to be ready",
      options.readyTimeoutMs ?? 60_000,
    )
  } catch (error) {
    child.kill("SIGKILL")
    throw new Error(`${String(error)}\n${text}`)
  }
  const readyMs = performance.now() - started

  async function end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (!ended()) child.kill(signal)
    return exited
  }

  return {
    address: `127.0.0.1:${data}`,
    opsAddress: `127.0.0.1:${ops}`,
    dataDir,
    process: child,
    readyMs,
    output: () => text,
    channel: (headers) => connect(`127.0.0.1:${data}`, headers),
    end,
    async stop() {
      await end("SIGKILL")
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true })
    },
  }
}
