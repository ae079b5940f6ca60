/**
 * Regenerates src/gen from proto/. Generates beside the tree and moves files into place one by one, so that a checkout
 * stays usable while it runs; a broken proto changes nothing.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const temporary = mkdtempSync(join(root, "node_modules", ".gen-"))
const target = join(root, "src", "gen")

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(join(folder, name)).isFile(),
  )
}

try {
  execFileSync("buf", ["generate", "--output", temporary], { cwd: root, stdio: "inherit" })
  const made = join(temporary, "src", "gen")
  const fresh = new Set(filesBelow(made))
  for (const name of fresh) {
    const destination = join(target, name)
    const content = readFileSync(join(made, name))
    if (existsSync(destination) && readFileSync(destination).equals(content)) continue
    cpSync(join(made, name), destination, { recursive: true })
  }
  for (const name of filesBelow(target)) if (!fresh.has(name)) rmSync(join(target, name))
  console.log(`${fresh.size} files in ${relative(root, target)}`)
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
