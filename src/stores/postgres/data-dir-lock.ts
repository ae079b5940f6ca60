/** One daemon per data directory: a lock file that names its owner and is taken over when the owner is dead. */
import { randomUUID } from "node:crypto"
import { chmod, link, mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { DomainError } from "../../domain/kernel/errors.ts"

const FILE = "daemon.lock"
/** Between two looks at a lock that another newcomer is just cleaning up. */
const RETRY_MS = 10

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
  const holder = await take(path, self)
  if (holder !== undefined) throw heldBy(holder, directory)
  return { release: () => release(path, self) }
}

/** Takes the lock for `self`, from a dead holder too, or answers its living holder. */
async function take(path: string, self: Owner): Promise<Owner | undefined> {
  for (;;) {
    if (await create(path, self)) return undefined
    const owner = await readOwner(path)
    if (owner === "absent") continue
    if (owner !== "unreadable" && (await isAlive(owner))) return owner
    await removeDead(path, owner)
  }
}

/**
 * Removes the lock of a dead `owner`, under a lock named after that owner: a newcomer that is late must not remove the lock
 * that a faster one has taken meanwhile.
 */
async function removeDead(path: string, owner: Owner | "unreadable"): Promise<void> {
  const guard = `${path}.${nonceOf(owner)}`
  const self: Owner = { pid: process.pid, started: await startOf(process.pid), nonce: randomUUID() }
  if ((await take(guard, self)) !== undefined) {
    await setTimeout(RETRY_MS)
    return
  }
  if (nonceOf(await readOwner(path)) === nonceOf(owner)) await rm(path, { force: true })
  await release(guard, self)
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

function nonceOf(owner: Owner | "unreadable" | "absent"): string {
  return typeof owner === "string" ? owner : owner.nonce
}

async function readOwner(path: string): Promise<Owner | "unreadable" | "absent"> {
  try {
    const owner: unknown = JSON.parse(await readFile(path, "utf8"))
    return isOwner(owner) ? owner : "unreadable"
  } catch (error) {
    if (hasCode(error, "ENOENT")) return "absent"
    if (error instanceof SyntaxError) return "unreadable"
    throw error
  }
}

function isOwner(value: unknown): value is Owner {
  if (typeof value !== "object" || value === null) return false
  const { pid, started, nonce } = value as Record<string, unknown>
  return (
    Number.isInteger(pid) &&
    typeof started === "string" &&
    typeof nonce === "string" &&
    /^[\w-]+$/.test(nonce)
  )
}

async function release(path: string, self: Owner): Promise<void> {
  if (nonceOf(await readOwner(path)) === self.nonce) await rm(path, { force: true })
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
