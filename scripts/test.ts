/**
 * `npm test`: everything that keeps main honest, in the order in which a fault is cheapest to read. Arguments narrow the
 * last step to test files whose path contains one of them: `npm test -- rpc cache`.
 */
import { spawnSync } from "node:child_process"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { availableParallelism, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const wanted = process.argv.slice(2)

/**
 * Servers, daemons and kills of several test files share two cores in this run. A few files that fail then are tried once more,
 * alone; what fails there, or more files than this, is no accident.
 */
const AGAIN_AT_MOST = 6

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

const folder = mkdtempSync(join(tmpdir(), "keelplane-tests-"))

/** Runs test files; answers those in which something failed. */
function run(tests: readonly string[], concurrency: number): readonly string[] {
  const report = join(folder, `failed-${concurrency}`)
  const { error, status } = spawnSync(
    process.execPath,
    [
      "--test",
      `--test-concurrency=${concurrency}`,
      "--test-timeout=900000",
      "--test-reporter=spec",
      "--test-reporter-destination=stdout",
      "--test-reporter=./scripts/failed-files.ts",
      `--test-reporter-destination=${report}`,
      ...tests,
    ],
    { cwd: root, stdio: "inherit" },
  )
  if (error) throw error
  if (status === 0) return []
  const failed = readFileSync(report, "utf8")
    .split("\n")
    .filter((line) => line !== "")
  return failed.length === 0 ? tests : failed
}

const started = performance.now()
console.log(`\n== tests: ${files.length} files`)
let failed = run(files, Math.max(2, availableParallelism()))
if (failed.length > 0 && failed.length <= AGAIN_AT_MOST) {
  console.error(`== failed beside others: ${failed.join(" ")}; each is tried once more, alone`)
  const first = failed
  failed = run(first, 1)
  if (failed.length === 0) console.error(`== passed alone: ${first.join(" ")}; they want a look`)
}
rmSync(folder, { recursive: true, force: true })
if (failed.length > 0) {
  console.error(`== tests failed: ${failed.join(" ")}`)
  process.exit(1)
}
console.log(`== tests ok, ${((performance.now() - started) / 1000).toFixed(1)} s`)
