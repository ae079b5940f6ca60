/** One daemon per data directory: a lock file that names its owner and is taken over when the owner is dead. */
import { randomUUID } from "node:crypto"
import { link, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { DomainError } from "../../domain/kernel/errors.ts"
import { makeDataDir } from "./data-dir.ts"
import { hasBeat, type Place, placeOfSelf, SocketFolder, startBeat } from "./data-dir-pulse.ts"

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
  /** Where the pid counts; undefined when nobody wrote it down. */
  readonly place: Place | undefined
  /** The socket in the directory that its process listens on; undefined where there are no sockets. */
  readonly socket: string | undefined
}

/** One newcomer's view of one directory. */
interface Newcomer {
  readonly directory: string
  readonly place: Place
  readonly sockets: SocketFolder
  readonly self: Owner
}

/**
 * Makes `directory` (mode 0700) if need be and locks it. Throws FAILED_PRECONDITION with one line that names the process and
 * the directory when a living process holds it.
 */
export async function lockDataDir(directory: string): Promise<DataDirLock> {
  await makeDataDir(directory)
  const path = join(directory, FILE)
  const sockets = await SocketFolder.open(directory)
  const name = `daemon.${randomUUID()}.sock`
  // It listens before any lock names it, so that a socket that refuses has lost its process.
  const server = await sockets.listen(name)
  const leave = async (): Promise<void> => {
    if (server !== undefined) await new Promise((done) => server.close(done))
    await sockets.close()
  }
  try {
    const place = await placeOfSelf()
    const started = await startOf(process.pid)
    const socket = server === undefined ? undefined : name
    const self: Owner = { pid: process.pid, started, nonce: randomUUID(), place, socket }
    const holder = await take(path, { directory, place, sockets, self })
    if (holder !== undefined) throw heldBy(holder, directory, place)
    const stopBeat = await startBeat(path)
    let released: Promise<void> | undefined
    return {
      release: () => {
        released ??= stopBeat()
          .then(() => release(path, self))
          .finally(leave)
        return released
      },
    }
  } catch (error) {
    await leave()
    throw error
  }
}

/** Takes the lock for the newcomer, from a dead holder too, or answers its living holder. */
async function take(path: string, newcomer: Newcomer): Promise<Owner | undefined> {
  for (;;) {
    if (await create(path, newcomer.self)) return undefined
    const owner = await readOwner(path)
    if (owner === "absent") continue
    if (owner !== "unreadable" && (await isAlive(path, owner, newcomer))) return owner
    await removeDead(path, owner, newcomer)
  }
}

/**
 * Removes the lock of a dead `owner`, under a lock named after that owner: a newcomer that is late must not remove the lock
 * that a faster one has taken meanwhile.
 */
async function removeDead(path: string, owner: Owner | "unreadable", newcomer: Newcomer): Promise<void> {
  const guard = `${path}.${nonceOf(owner)}`
  const self: Owner = { ...newcomer.self, nonce: randomUUID() }
  if ((await take(guard, { ...newcomer, self })) !== undefined) {
    await setTimeout(RETRY_MS)
    return
  }
  if (nonceOf(await readOwner(path)) === nonceOf(owner)) {
    await rm(path, { force: true })
    const socket = typeof owner === "string" ? undefined : owner.socket
    if (socket !== undefined) await rm(join(newcomer.directory, socket), { force: true })
  }
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
    return toOwner(JSON.parse(await readFile(path, "utf8"))) ?? "unreadable"
  } catch (error) {
    if (hasCode(error, "ENOENT")) return "absent"
    if (error instanceof SyntaxError) return "unreadable"
    throw error
  }
}

function toOwner(value: unknown): Owner | undefined {
  if (typeof value !== "object" || value === null) return undefined
  const { pid, started, nonce, place, socket } = value as Record<string, unknown>
  if (typeof pid !== "number" || !Number.isInteger(pid) || typeof started !== "string") return undefined
  if (typeof nonce !== "string" || !/^[\w-]+$/.test(nonce)) return undefined
  const named = typeof socket === "string" && /^daemon\.[\w-]+\.sock$/.test(socket)
  return { pid, started, nonce, place: toPlace(place), socket: named ? socket : undefined }
}

function toPlace(value: unknown): Place | undefined {
  if (typeof value !== "object" || value === null) return undefined
  const { boot, namespace } = value as Record<string, unknown>
  return typeof boot === "string" && typeof namespace === "string" ? { boot, namespace } : undefined
}

async function release(path: string, self: Owner): Promise<void> {
  if (nonceOf(await readOwner(path)) === self.nonce) await rm(path, { force: true })
}

/** The kernel knows of a socket on this machine; a process id tells within its namespace; elsewhere there is the heartbeat. */
async function isAlive(path: string, owner: Owner, { place, sockets }: Newcomer): Promise<boolean> {
  const { boot, namespace } = owner.place ?? place
  // A socket whose process runs on another machine that shares the directory refuses here.
  if (owner.socket !== undefined) {
    const answer = await sockets.probe(owner.socket)
    if (answer === true || (answer === false && boot === place.boot)) return answer
  }
  if (boot === place.boot && namespace === place.namespace) return isRunning(owner)
  return hasBeat(path)
}

async function isRunning(owner: Owner): Promise<boolean> {
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

function heldBy({ pid, place: where }: Owner, directory: string, place: Place): DomainError {
  const near = where === undefined || (where.boot === place.boot && where.namespace === place.namespace)
  const who = `process id ${pid}${near ? "" : " of another container or machine"}`
  return new DomainError(
    "FAILED_PRECONDITION",
    `${directory} is in use by the daemon with ${who}; stop it, or give this one another --data-dir`,
    { metadata: { pid: String(pid), directory } },
  )
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code
}
