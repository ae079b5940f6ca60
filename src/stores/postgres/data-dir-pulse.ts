/**
 * Signs of life that reach beyond a container. Two processes in different PID namespaces may share a directory and cannot
 * see each other's ids, but the kernel finds a listening Unix socket by its inode, whoever asks, and forgets it with its owner.
 */
import { type FileHandle, open, readFile, readlink, stat } from "node:fs/promises"
import { connect, createServer, type Server } from "node:net"
import { join, resolve } from "node:path"
import { setTimeout } from "node:timers/promises"

/** sockaddr_un holds 104 to 108 bytes, depending on the system. */
const MAX_SOCKET_PATH = 100
const BEAT_MS = 2_000
/** A lock that nobody has refreshed for so long has lost its owner. */
const STALE_MS = 15_000
const LOOK_MS = 250

/** Where a process id means something. Empty fields where the system does not tell. */
export interface Place {
  readonly boot: string
  readonly namespace: string
}

/** This process's boot and PID namespace. */
export async function placeOfSelf(): Promise<Place> {
  const [boot, namespace] = await Promise.all([
    readFile("/proc/sys/kernel/random/boot_id", "utf8").then((id) => id.trim(), unknownPlace),
    readlink("/proc/self/ns/pid").catch(unknownPlace),
  ])
  return { boot, namespace }
}

/** No such file on this system: the process id alone has to do. */
const unknownPlace = (): string => ""

/** The sockets of one directory, reached by a path that is short enough wherever the directory lies. */
export class SocketFolder {
  readonly #directory: string
  readonly #handle: FileHandle | undefined

  private constructor(directory: string, handle: FileHandle | undefined) {
    this.#directory = directory
    this.#handle = handle
  }

  /** Close it after the last socket. */
  static async open(directory: string): Promise<SocketFolder> {
    const handle = process.platform === "linux" ? await open(directory, "r") : undefined
    return new SocketFolder(resolve(directory), handle)
  }

  #path(name: string): string | undefined {
    if (this.#handle !== undefined) return `/proc/self/fd/${this.#handle.fd}/${name}`
    const path = join(this.#directory, name)
    return Buffer.byteLength(path) <= MAX_SOCKET_PATH ? path : undefined
  }

  /** Listens until it is closed; keeps no process alive. Undefined where the file system has no sockets. */
  listen(name: string): Promise<Server | undefined> {
    const path = this.#path(name)
    if (path === undefined) return Promise.resolve(undefined)
    return new Promise((done) => {
      const server = createServer((caller) => caller.on("error", () => caller.destroy()).destroy())
      // Before it listens: there are no sockets here. Afterwards: a caller that was not accepted, but knew enough by connecting.
      server.on("error", () => done(undefined))
      server.listen(path, () => done(server.unref()))
    })
  }

  /** Whether somebody listens; undefined when that cannot be told from here. */
  probe(name: string): Promise<boolean | undefined> {
    const path = this.#path(name)
    if (path === undefined) return Promise.resolve(undefined)
    return new Promise((done) => {
      const socket = connect(path, () => {
        socket.destroy()
        done(true)
      })
      socket.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code === "ECONNREFUSED") return done(false)
        // A full queue or a socket of another user's: somebody is there.
        done(error.code === "EAGAIN" || error.code === "EACCES" || error.code === "EPERM" ? true : undefined)
      })
    })
  }

  /** Gives the directory free. */
  async close(): Promise<void> {
    await this.#handle?.close()
  }
}

/** Refreshes the time of the file at `path`, of that very file, until the answer is called. */
export async function startBeat(path: string): Promise<() => Promise<void>> {
  const file = await open(path, "r")
  const beat = async (): Promise<void> => {
    const now = new Date()
    // A beat that is missed is made up for by the next; it takes seven to look dead.
    await file.utimes(now, now).catch(() => {})
  }
  let last: Promise<void> = beat()
  const timer = setInterval(() => {
    last = beat()
  }, BEAT_MS).unref()
  return async () => {
    clearInterval(timer)
    await last
    await file.close()
  }
}

/**
 * Whether somebody refreshes the file at `path`, for owners whose process cannot be seen from here. One that is young but
 * does not change is watched until it is stale.
 */
export async function hasBeat(path: string): Promise<boolean> {
  const first = await timeOf(path)
  if (first === undefined || Date.now() - first >= STALE_MS) return false
  // A clock that is ahead must not make it look alive for ever.
  const until = performance.now() + Math.min(STALE_MS, first + STALE_MS - Date.now())
  while (performance.now() < until) {
    await setTimeout(LOOK_MS)
    const now = await timeOf(path)
    if (now !== first) return now !== undefined
  }
  return false
}

async function timeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined
    throw error
  }
}
