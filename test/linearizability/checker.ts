/** The checker of histories: a small Go program around porcupine, built once and kept outside the tree. */
import { execFile, spawn } from "node:child_process"
import { createHash, randomUUID } from "node:crypto"
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { CACHE, go, type Tool } from "../support/tools.ts"
import type { Operation } from "./history.ts"

const run = promisify(execFile)
const SOURCE = fileURLToPath(new URL("./checker/", import.meta.url))
const FILES = ["go.mod", "go.sum", "main.go", "models.go"]
const BUILD_MS = 600_000

/** What the checker says of one object. */
export interface Verdict {
  readonly kind: string
  readonly key: string
  readonly operations: number
  /** Operations of which nobody knows whether they took place. */
  readonly unknown: number
  readonly result: "linearizable" | "not linearizable" | "undecided"
  /** The end of the longest part that is in order. */
  readonly longest?: readonly string[]
  /** What could not come after it. */
  readonly stuck?: readonly string[]
}

/** The program, or why it cannot be had. */
export async function checkerTool(): Promise<Tool> {
  const hash = createHash("sha256")
  for (const file of FILES) hash.update(readFileSync(join(SOURCE, file)))
  const path = join(CACHE, "bin", `linearizability-${hash.digest("hex").slice(0, 16)}`, "checker")
  if (existsSync(path)) return { path }
  const compiler = await go()
  if ("missing" in compiler) return compiler
  const own = `${path}.${randomUUID()}`
  mkdirSync(dirname(path), { recursive: true })
  try {
    await run(compiler.path, ["build", "-trimpath", "-ldflags=-s -w", "-o", own, "."], {
      cwd: SOURCE,
      env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-mod=readonly" },
      timeout: BUILD_MS,
    })
    // Through a name of its own, as another test file may build it right now.
    renameSync(own, path)
    return { path }
  } catch (error) {
    return { missing: `the checker of histories could not be built: ${String(error).slice(0, 300)}` }
  }
}

/** Asks the checker about a history. `limitSeconds` is how long it may look at one object. */
export async function verdicts(
  path: string,
  history: readonly Operation[],
  limitSeconds = 60,
): Promise<readonly Verdict[]> {
  const child = spawn(path, ["-limit", `${limitSeconds}s`], { stdio: ["pipe", "pipe", "pipe"] })
  let answer = ""
  let complaint = ""
  child.stdout.on("data", (chunk: Buffer) => {
    answer += chunk.toString()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    complaint += chunk.toString()
  })
  // It may end before it has read everything, and says why.
  child.stdin.on("error", () => undefined)
  child.stdin.end(history.map((operation) => `${JSON.stringify(operation)}\n`).join(""))
  await new Promise((resolve) => child.once("close", resolve))
  if (complaint !== "") throw new Error(complaint)
  const lines = answer.split("\n").filter((line) => line !== "")
  return lines.map((line) => JSON.parse(line) as Verdict)
}
