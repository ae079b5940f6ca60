/**
 * Programs that tests run but the project does not ship: grpcurl, helm, Python and Go. Each is taken from the PATH, from a cache
 * outside the tree, or installed once by its language's own package client. What cannot be had skips its tests with the
 * reason; in CI (`CI=true`) that is a failure.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

const run = promisify(execFile)

/** Where installed tools live. `KEELPLANE_TEST_CACHE` moves it. */
export const CACHE = process.env.KEELPLANE_TEST_CACHE ?? join(homedir(), ".cache", "keelplane")

/** Go programs by name: module path and pinned version. */
const GO_TOOLS: Readonly<Record<string, string>> = {
  grpcurl: "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
  helm: "helm.sh/helm/v3/cmd/helm@v3.19.0",
  "protoc-gen-go": "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12",
  "protoc-gen-go-grpc": "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
}

/** A tool that can be run, or why it cannot. */
export type Tool = { readonly path: string } | { readonly missing: string }

/** What node:test takes as `skip`: false, or the printed reason. In CI a missing tool throws instead. */
export function skipReason(...tools: readonly Tool[]): string | false {
  const reasons = tools.flatMap((tool) => ("missing" in tool ? [tool.missing] : []))
  if (reasons.length === 0) return false
  if (process.env.CI) throw new Error(`needed in CI: ${reasons.join("; ")}`)
  return reasons.join("; ")
}

/** The path of a tool that {@link skipReason} found present. */
export function pathOf(tool: Tool): string {
  if ("missing" in tool) throw new Error(tool.missing)
  return tool.path
}

async function onPath(name: string): Promise<string | undefined> {
  for (const folder of (process.env.PATH ?? "").split(":")) {
    const candidate = join(folder, name)
    if (folder && existsSync(candidate)) return candidate
  }
  return undefined
}

/** The Go toolchain. */
export async function go(): Promise<Tool> {
  const found =
    (await onPath("go")) ?? (existsSync("/usr/local/go/bin/go") ? "/usr/local/go/bin/go" : undefined)
  return found
    ? { path: found }
    : { missing: "Go is not installed (looked on the PATH and in /usr/local/go)" }
}

/** A program written in Go, built from its pinned module on first use. */
export async function goTool(name: string): Promise<Tool> {
  const module = GO_TOOLS[name]
  if (!module) throw new Error(`no pinned version for ${name}`)
  const version = module.slice(module.lastIndexOf("@") + 1)
  const folder = join(CACHE, "bin", `${name}-${version}`)
  const path = join(folder, name)
  if (existsSync(path)) return { path }
  const compiler = await go()
  if ("missing" in compiler) {
    const installed = await onPath(name)
    return installed ? { path: installed } : { missing: `${name} is not installed and ${compiler.missing}` }
  }
  mkdirSync(folder, { recursive: true })
  try {
    await run(compiler.path, ["install", "-ldflags=-s -w", module], {
      env: { ...process.env, GOBIN: folder, CGO_ENABLED: "0", GOFLAGS: "" },
      timeout: 900_000,
      maxBuffer: 1 << 26,
    })
    return { path }
  } catch (error) {
    return { missing: `${module} could not be built: ${String(error).slice(0, 300)}` }
  }
}

/** Exact versions of what the Python client needs. */
const PYTHON_PACKAGES = ["grpcio==1.85.1", "grpcio-tools==1.85.1", "grpcio-status==1.85.1"]

/** A Python interpreter in a virtual environment that has gRPC. */
export async function python(): Promise<Tool> {
  const system = (await onPath("python3")) ?? (await onPath("python"))
  if (!system) return { missing: "Python 3 is not installed" }
  const folder = join(CACHE, `python-${PYTHON_PACKAGES[0]?.split("==")[1]}`)
  const interpreter = join(folder, "bin", "python")
  if (existsSync(join(folder, "ready"))) return { path: interpreter }
  try {
    await run(system, ["-m", "venv", "--clear", folder], { timeout: 120_000 })
    await run(
      interpreter,
      ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...PYTHON_PACKAGES],
      {
        timeout: 600_000,
        maxBuffer: 1 << 26,
      },
    )
    mkdirSync(join(folder, "ready"))
    return { path: interpreter }
  } catch (error) {
    return { missing: `the Python packages could not be installed: ${String(error).slice(0, 300)}` }
  }
}
