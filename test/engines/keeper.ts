/**
 * One server for all test files of a machine, kept by a process of its own. Whoever needs it first starts that process; it is found by an
 * abstract socket, which only one process can have and which vanishes with it. Each test process holds a connection; the server
 * ends some seconds after the last one is gone, however it went.
 */
import { spawn } from "node:child_process"
import { connect, createServer, type Socket } from "node:net"

/** Test files run one after the other: the next one may come some time after the last one went. */
const LINGER_MS = 15_000

/** A server that a keeper has started. */
export interface Kept {
  /** What test processes are told. */
  readonly address: string
  stop(): Promise<void>
}

/** In the keeper's process: keeps what `start` starts, which nobody else does under this name. Ends the process. */
export function keep(name: string, start: () => Promise<Kept>): void {
  const clients = new Set<Socket>()
  let kept: Promise<Kept> | undefined
  let linger: NodeJS.Timeout | undefined
  const finish = async () => {
    // Who comes now finds nobody and starts a keeper of his own.
    server.close()
    await Promise.allSettled([kept?.then((running) => running.stop())])
    process.exit(0)
  }
  const wait = () => {
    clearTimeout(linger)
    linger = setTimeout(() => void finish(), LINGER_MS)
  }
  const server = createServer((socket) => {
    clients.add(socket)
    clearTimeout(linger)
    socket.on("error", () => socket.destroy())
    socket.on("close", () => {
      clients.delete(socket)
      if (clients.size === 0) wait()
    })
    socket.resume()
    kept ??= start()
    kept.then(
      ({ address }) => socket.write(`${JSON.stringify({ address })}\n`),
      (error: unknown) => {
        socket.end(`${JSON.stringify({ failure: String(error) })}\n`)
        wait()
      },
    )
  })
  // Another keeper was faster.
  server.on("error", () => process.exit(0))
  server.listen(`\0${name}`, wait)
}

/** A server that is kept until {@link Lease.end}, or until this process ends. */
export interface Lease {
  readonly address: string
  end(): void
}

/** In a test's process: the address of what is kept under a name; starts `script` with the name and `args` where nobody keeps it. */
export async function leaseKept(
  name: string,
  script: string,
  args: readonly string[],
  patienceMs: number,
): Promise<Lease> {
  const until = Date.now() + patienceMs
  while (Date.now() < until) {
    const socket = await connected(name)
    const line = socket === undefined ? undefined : await firstLine(socket)
    if (socket !== undefined && line !== undefined) {
      const { address, failure } = JSON.parse(line) as {
        readonly address?: string
        readonly failure?: string
      }
      if (address === undefined) throw new Error(failure)
      // Held until we end, and no reason not to.
      socket.unref()
      return { address, end: () => socket.destroy() }
    }
    if (socket === undefined) {
      spawn(process.execPath, [script, name, ...args], { stdio: "ignore", detached: true }).unref()
    }
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
  throw new Error(`nobody keeps ${name} for the tests`)
}

function connected(name: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: `\0${name}` })
    socket.once("connect", () => resolve(socket))
    socket.once("error", () => resolve(undefined))
  })
}

function firstLine(socket: Socket): Promise<string | undefined> {
  return new Promise((resolve) => {
    let text = ""
    socket.on("data", (chunk) => {
      text += String(chunk)
      if (text.includes("\n")) resolve(text.split("\n", 1)[0])
    })
    socket.once("close", () => resolve(undefined))
  })
}
