/**
 * Regenerates src/gen from proto/. Generates beside the tree and replaces only files that changed, so that a checkout
 * stays usable while it runs and a broken proto changes nothing. With --check it writes nothing and fails on a difference.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const target = join(root, "src", "gen")
const check = process.argv.includes("--check")

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
}

function same(left: string, right: string): boolean {
  return existsSync(left) && existsSync(right) && readFileSync(left).equals(readFileSync(right))
}

const temporary = mkdtempSync(join(root, "node_modules", ".gen-"))
try {
  execFileSync("buf", ["generate", "--output", temporary], { cwd: root, stdio: "inherit" })
  const made = join(temporary, "src", "gen")
  const fresh = filesBelow(made)
  const changed = fresh.filter((name) => !same(join(made, name), join(target, name)))
  const stale = filesBelow(target).filter((name) => !fresh.includes(name))
  if (check) {
    for (const name of [...changed, ...stale])
      console.error(`out of date: ${relative(root, join(target, name))}`)
    if (changed.length + stale.length > 0) {
      console.error("run `npm run gen` and commit the result")
      process.exitCode = 1
    }
  } else {
    for (const name of changed) cpSync(join(made, name), join(target, name), { recursive: true })
    for (const name of stale) rmSync(join(target, name))
    console.log(`${fresh.length} generated files, ${changed.length} changed, ${stale.length} removed`)
  }
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
