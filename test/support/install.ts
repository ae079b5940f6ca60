/** What tests install into their cache: made once, aside, and then whole or not there at all. */
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import type { Tool } from "./tools.ts"

const run = promisify(execFile)

/**
 * The folder `path`. Where it is not there yet, `make` gets an empty folder to work in and says which one below it is to be `path`.
 * `title` names it in the reason for which it cannot be had.
 */
export async function installed(
  path: string,
  title: string,
  make: (folder: string) => Promise<string>,
): Promise<Tool> {
  if (existsSync(path)) return { path }
  const folder = mkdtempSync(join(tmpdir(), "keelplane-install-"))
  try {
    await moveTo(path, await make(folder))
    return { path }
  } catch (error) {
    return { missing: `${title} could not be had: ${String(error).slice(0, 300)}` }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Copies a folder to `path` through a name of its own and a rename, as other test files may do the same right now. */
async function moveTo(path: string, made: string): Promise<void> {
  mkdirSync(dirname(path), { recursive: true })
  const own = `${path}.${randomUUID()}`
  try {
    await run("cp", ["-r", "-P", made, own])
    renameSync(own, path)
  } catch (error) {
    if (!existsSync(path)) throw error
  } finally {
    rmSync(own, { recursive: true, force: true })
  }
}
