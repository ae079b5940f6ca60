import { spawn } from "node:child_process"

/** A daemon in a process of its own. */
export interface RunningCli {
  readonly pid: number
  /** Everything it has printed so far. */
  stdout(): string
  stderr(): string
  kill(signal: NodeJS.Signals): void
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

/** Starts `serve` and resolves when it says that it is ready; rejects with its output when it ends before. */
export function startCli(
  main: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<RunningCli> {
  const child = spawn(process.execPath, [main, "serve", ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  })
  let stdout = ""
  let stderr = ""
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on("close", (code, signal) => resolve({ code, signal }))
  })
  return new Promise((resolve, reject) => {
    child.on("error", reject)
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk)
    })
    child.stdout.on("data", (chunk) => {
      stdout += String(chunk)
      // The welcome ends with an empty line.
      if (!/is ready[\s\S]*\n\n$/.test(stdout)) return
      resolve({
        pid: child.pid ?? 0,
        stdout: () => stdout,
        stderr: () => stderr,
        kill: (signal) => child.kill(signal),
        ended,
      })
    })
    void ended.then(({ code }) => reject(new Error(`ended with ${code}: ${stdout}${stderr}`)))
  })
}
