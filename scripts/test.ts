/**
 * `npm test`: everything that keeps main honest, in the order in which a fault is cheapest to read. Arguments narrow the
 * last step to test files whose path contains one of them: `npm test -- rpc cache`.
 */
import { spawnSync } from "node:child_process"
import { globSync } from "node:fs"
import { availableParallelism } from "node:os"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const wanted = process.argv.slice(2)

/** One command; a failure ends the run with its exit code. */
function step(name: string, command: string, args: readonly string[]): void {
  const started = performance.now()
  console.log(
    `\n== ${name}: ${command} ${args.length > 6 ? `${args.slice(0, 6).join(" ")} ...` : args.join(" ")}`,
  )
  const result = spawnSync(command, args, { cwd: root, stdio: "inherit", shell: false })
  if (result.error) throw result.error
  if (result.status !== 0) {
    console.error(`== ${name} failed`)
    process.exit(result.status ?? 1)
  }
  console.log(`== ${name} ok, ${((performance.now() - started) / 1000).toFixed(1)} s`)
}

if (wanted.length === 0) {
  step("format and lint", "biome", ["check", "--error-on-warnings", "."])
  step("proto lint", "buf", ["lint"])
  step("proto format", "buf", ["format", "--diff", "--exit-code", "--path", "proto/keelplane"])
  step("proto compatibility", process.execPath, ["scripts/breaking.ts"])
  step("generated code", process.execPath, ["scripts/gen.ts", "--check"])
  step("types", "tsc", ["--noEmit", "-p", "."])
}
step("build", process.execPath, ["scripts/build.ts"])

const files = globSync("test/**/*.test.ts", { cwd: root })
  .sort()
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
if (files.length === 0) {
  console.error(`no test file matches ${wanted.join(", ")}`)
  process.exit(2)
}
step("tests", process.execPath, [
  "--test",
  `--test-concurrency=${Math.max(2, availableParallelism())}`,
  "--test-timeout=600000",
  "--test-reporter=spec",
  ...files,
])
