/**
 * The sidecar of Dapr, built from its Go module and kept in the cache outside the tree. Takes five to ten minutes of one core, once. It has all
 * components but two bindings that today's Go does not assemble, as the released one has them: a smaller one would need less memory.
 */
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { CACHE, go, pathOf } from "../../test/support/tools.ts"

const run = promisify(execFile)

/** The newest whose modules the public proxy has. */
export const DAPRD_VERSION = "1.16.0"
const BUILD_MS = 3_600_000
const LEFT_OUT = ["bindings_dubbo.go", "bindings_kitex.go"]

/** The program, built where it is missing. Raises where there is no Go. */
export async function daprdProgram(): Promise<string> {
  const path = join(CACHE, "bin", `daprd-${DAPRD_VERSION}`, "daprd")
  if (existsSync(path)) return path
  const compiler = pathOf(await go())
  const folder = mkdtempSync(join(tmpdir(), "keelplane-daprd-"))
  console.error("building daprd; this happens once and takes minutes")
  try {
    const how = { cwd: folder, timeout: BUILD_MS, maxBuffer: 1 << 26 }
    await run(compiler, ["mod", "init", "local/build"], how)
    const { stdout } = await run(
      compiler,
      ["mod", "download", "-json", `github.com/dapr/dapr@v${DAPRD_VERSION}`],
      how,
    )
    const source = join(folder, "dapr")
    // `go install` refuses modules that replace others, so it is built where it may.
    cpSync((JSON.parse(stdout) as { Dir: string }).Dir, source, { recursive: true })
    await run("chmod", ["-R", "u+w", source], how)
    for (const name of LEFT_OUT) rmSync(join(source, "cmd", "daprd", "components", name), { force: true })
    const own = `${path}.${randomUUID()}`
    mkdirSync(join(path, ".."), { recursive: true })
    const stamp = `-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=${DAPRD_VERSION}`
    const args = ["build", "-p", "1", "-tags", "allcomponents", "-ldflags", stamp, "-o", own, "./cmd/daprd"]
    await run(compiler, args, { ...how, cwd: source, env: { ...process.env, CGO_ENABLED: "0" } })
    renameSync(own, path)
    return path
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
