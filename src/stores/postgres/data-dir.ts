/** The data directory itself: made if need be, private where that is ours to decide, writable in any case. */
import { access, chmod, constants, mkdir, stat } from "node:fs/promises"
import { dirname, resolve } from "node:path"
import { DomainError } from "../../domain/kernel/errors.ts"

const PRIVATE = 0o700
/** File systems without modes, and mounts that keep their owner's. */
const NO_MODES = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])

/**
 * Makes `directory` and its missing parents with mode 0700. One that exists becomes private when this process owns it; a
 * volume that belongs to somebody else is taken as it is. Throws FAILED_PRECONDITION with one line that names the directory
 * when it cannot be made or written.
 */
export async function makeDataDir(directory: string): Promise<void> {
  const path = resolve(directory)
  try {
    await make(path)
    const { uid, mode } = await stat(path)
    const owned = process.geteuid === undefined || uid === process.geteuid()
    if (owned && (mode & 0o7777) !== PRIVATE) await makePrivate(path)
  } catch (error) {
    throw unusable("cannot be made", directory, error)
  }
  try {
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw unusable("cannot be written by this user", directory, error)
  }
}

/** Step by step: Node's own recursive mkdir never ends where the kernel answers ENOENT below a parent that exists, as in /proc. */
async function make(path: string): Promise<void> {
  const missing: string[] = []
  for (let at = path; !(await isDirectory(at)); at = dirname(at)) missing.push(at)
  for (const each of missing.reverse()) {
    try {
      await mkdir(each, { mode: PRIVATE })
    } catch (error) {
      // Another newcomer was faster.
      if (codeOf(error) !== "EEXIST" || !(await isDirectory(each))) throw error
    }
  }
}

/** False when nothing is there; throws ENOTDIR when it is something else. */
async function isDirectory(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true
  } catch (error) {
    if (codeOf(error) === "ENOENT" && dirname(path) !== path) return false
    throw error
  }
  throw Object.assign(new Error(`ENOTDIR: ${path} is not a directory`), { code: "ENOTDIR" })
}

async function makePrivate(path: string): Promise<void> {
  try {
    await chmod(path, PRIVATE)
  } catch (error) {
    if (!NO_MODES.has(codeOf(error))) throw error
  }
}

function unusable(why: string, directory: string, error: unknown): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    `the data directory ${directory} ${why} (${codeOf(error)}); give a writable one with --data-dir`,
    { metadata: { directory }, cause: error },
  )
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error)
}
