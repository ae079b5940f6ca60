/** One daemon per data directory: a lock file that names its owner and is taken over when the owner is dead. */
import { randomUUID } from "node:crypto"
import { chmod, link, mkdir, readFile, rename, rm, unlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { DomainError } from "../../domain/kernel/errors.ts"

const FILE = "daemon.lock"

/** Held until {@link DataDirLock.release}. */
export interface DataDirLock {
  /** Gives the directory free. Safe to call twice. */
  release(): Promise<void>
}

interface Owner {
  readonly pid: number
  /** When the process began, in the kernel's ticks since boot; pids are used again. Empty where the system does not tell. */
  readonly started: string
  readonly nonce: string
}

/**
 * Makes `directory` (mode 0700) if need be and locks it. Throws FAILED_PRECONDITION with one line that names the process and
 * the directory when a living process holds it.
 */
export async function lockDataDir(directory: string): Promise<DataDirLock> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await chmod(directory, 0o700)
  const path = join(directory, FILE)
  const self: Owner = { pid: process.pid, started: await startOf(process.pid), nonce: randomUUID() }
  for (let attempt = 0; attempt < 10; attempt++) {
    if (await create(path, self)) return { release: () => release(path, self) }
    const owner = await readOwner(path)
    if (owner !== undefined && (await isAlive(owner))) throw heldBy(owner, directory)
    await removeStale(path, owner)
  }
  throw new DomainError(
    "FAILED_PRECONDITION",
    `the lock of ${directory} changes hands too fast; start one daemon only`,
    {
      metadata: { directory },
    },
  )
}

/** The file appears with its content in one step: written under another name, then linked, which fails if there is one. */
async function create(path: string, self: Owner): Promise<boolean> {
  const draft = `${path}.${self.nonce}`
  await writeFile(draft, JSON.stringify(self), { flag: "wx", mode: 0o600 })
  try {
    await link(draft, path)
    return true
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false
    throw error
  } finally {
    await rm(draft, { force: true })
  }
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner: unknown = JSON.parse(await readFile(path, "utf8"))
    return isOwner(owner) ? owner : undefined
  } catch (error) {
    if (hasCode(error, "ENOENT") || error instanceof SyntaxError) return undefined
    throw error
  }
}

function isOwner(value: unknown): value is Owner {
  if (typeof value !== "object" || value === null) return false
  const { pid, started, nonce } = value as Record<string, unknown>
  return Number.isInteger(pid) && typeof started === "string" && typeof nonce === "string"
}

/** Moves the stale file away and looks at it again: two newcomers must not remove each other's fresh lock. */
async function removeStale(path: string, stale: Owner | undefined): Promise<void> {
  const grave = `${path}.${randomUUID()}`
  try {
    await rename(path, grave)
  } catch (error) {
    if (hasCode(error, "ENOENT")) return
    throw error
  }
  const moved = await readOwner(grave)
  if (moved !== undefined && moved.nonce !== stale?.nonce) {
    // Someone was faster and locked in between: put his lock back.
    await link(grave, path).catch((error) => {
      if (!hasCode(error, "EEXIST")) throw error
    })
  }
  await unlink(grave)
}

async function release(path: string, self: Owner): Promise<void> {
  const owner = await readOwner(path)
  if (owner?.nonce === self.nonce) await rm(path, { force: true })
}

async function isAlive(owner: Owner): Promise<boolean> {
  try {
    process.kill(owner.pid, 0)
  } catch (error) {
    // EPERM: it lives, as another user.
    if (!hasCode(error, "EPERM")) return false
  }
  const started = await startOf(owner.pid)
  return owner.started === "" || started === "" || owner.started === started
}

/** Field 22 of /proc/<pid>/stat, counted behind the command name, which may hold anything. */
async function startOf(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
  } catch {
    // No /proc on this system: the pid alone has to do.
    return ""
  }
}

function heldBy(owner: Owner, directory: string): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    `${directory} is in use by the daemon with process id ${owner.pid}; stop it, or give this one another --data-dir`,
    { metadata: { pid: String(owner.pid), directory } },
  )
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code
}
