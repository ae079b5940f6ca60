import { chmodSync, lstatSync, unlinkSync } from "node:fs"
import { connect, type Server } from "node:net"

/** Longer paths are cut off silently by the kernel's address structure. */
const MAX_PATH_BYTES = 103
const PROBE_MS = 1000

/** Listens on a socket file that a group member may use. Replaces a stale file; refuses one that a live process serves. */
export async function listenOnSocketFile(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new Error(`the socket path ${path} is longer than ${MAX_PATH_BYTES} bytes`)
  }
  await makeRoom(path)
  await listening(server, () => server.listen({ path }))
  chmodSync(path, 0o660)
}

/** Resolves when the server listens, rejects when it cannot. */
export function listening(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject)
    server.once("listening", () => {
      server.off("error", reject)
      resolve()
    })
    listen()
  })
}

async function makeRoom(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return
  if (!stat.isSocket()) throw new Error(`${path} exists and is not a socket; it is left alone`)
  if (await isServed(path)) throw new Error(`a running process serves ${path} already`)
  unlinkSync(path)
}

/** Whether somebody accepts connections. A file nobody listens on refuses at once; anything else counts as alive. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path })
    const answer = (served: boolean) => {
      probe.destroy()
      resolve(served)
    }
    probe.setTimeout(PROBE_MS, () => answer(true))
    probe.once("connect", () => answer(true))
    probe.once("error", (error: NodeJS.ErrnoException) =>
      answer(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"),
    )
  })
}
