/**
 * src -> dist: compiles, copies what is not TypeScript, removes what no longer has a source, makes the database that a first
 * start unpacks. Does nothing, quickly, when nothing changed since the last build that succeeded.
 */
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const source = join(root, "src")
const target = join(root, "dist")
const stamp = join(target, ".stamp")
const template = join("stores", "postgres", "cluster-template.gz")
const TEMPLATE_TIMEOUT_MS = 300_000

const filesBelow = (folder: string): string[] =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    : []

function fingerprint(files: readonly string[]): string {
  const hash = createHash("sha256")
  const settings = [
    "tsconfig.json",
    "tsconfig.build.json",
    "package-lock.json",
    "scripts/build.ts",
    "scripts/cluster-template.ts",
  ]
  for (const file of [
    ...settings.map((name) => join(root, name)),
    ...files.map((name) => join(source, name)),
  ]) {
    const { size, mtimeMs } = statSync(file)
    hash.update(`${file}\0${size}\0${mtimeMs}\n`)
  }
  return hash.digest("hex")
}

function compile(): number {
  const tsc = join(root, "node_modules", ".bin", "tsc")
  const { status, error } = spawnSync(tsc, ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" })
  if (error) throw error
  return status ?? 1
}

/** Only the first start on an empty directory is slower without it, so a machine that cannot make it has a build all the same. */
function makeTemplate(): void {
  const script = join(root, "scripts", "cluster-template.ts")
  const { status, signal, error } = spawnSync(process.execPath, [script, join(target, template)], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: TEMPLATE_TIMEOUT_MS,
  })
  if (status === 0) return
  rmSync(join(target, template), { force: true })
  const why = error?.message ?? (signal === null ? "see above" : `ended by ${signal}`)
  console.error(
    `The cluster template could not be made (${why}): a first start takes some seconds longer. Remove dist and build to try again.`,
  )
}

const files = filesBelow(source)
const now = fingerprint(files)
const complete = existsSync(join(target, "main.js"))
if (complete && existsSync(stamp) && readFileSync(stamp, "utf8") === now) process.exit(0)

mkdirSync(target, { recursive: true })
// Without its outputs the compiler's memory of them is a lie.
if (!complete) rmSync(join(target, ".tsbuildinfo"), { force: true })
const status = compile()
for (const file of files.filter((name) => !name.endsWith(".ts") && !name.endsWith(".md"))) {
  cpSync(join(source, file), join(target, file), { recursive: true })
}
const kept = new Set(
  files.flatMap((name) => (name.endsWith(".ts") ? [name.replace(/\.ts$/, ".js")] : [name])),
).add(template)
for (const file of filesBelow(target)) {
  if (file.startsWith(".")) continue
  if (!kept.has(file.replace(/\.map$/, ""))) rmSync(join(target, file))
}
if (status === 0) makeTemplate()
if (status === 0) writeFileSync(stamp, now)
else rmSync(stamp, { force: true })
process.exitCode = status
