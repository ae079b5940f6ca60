/** One port for two protocols: the HTTP/2 preface decides. */

import type { Server as HttpServer } from "node:http"
import { createServer, type Server, Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { Transport } from "./transport.ts"

/** Every HTTP/2 connection begins with `PRI * HTTP/2.0`; no HTTP/1.1 method begins with these three letters. */
const PREFACE = Buffer.from("PRI")
/** How long a connection may stay silent before it has said what it speaks. */
const FIRST_BYTES_MS = 10_000

const fromSocketFiles = new WeakSet<Socket>()

/** Whether a connection came in by a socket file: told by its listener, as a TCP connection that is gone has no address either. */
export function isFromSocketFile(socket: Socket): boolean {
  return fromSocketFiles.has(socket)
}

/** The address at the other end of a connection, `unix` for a socket file. */
export function peerOf(connection: Duplex): string {
  if (!(connection instanceof Socket)) return "unknown"
  return isFromSocketFile(connection) ? "unix" : (connection.remoteAddress ?? "unknown")
}

/** Who takes which connections. */
export interface PortTargets {
  readonly http2: Pick<Transport, "accept">
  readonly http1: HttpServer
  readonly maxConnections: number
}

/** A server that hands each connection to the target its first bytes ask for. It does not listen yet. */
export function createPort(targets: PortTargets): {
  readonly server: Server
  readonly sockets: ReadonlySet<Socket>
} {
  const sockets = new Set<Socket>()
  let isSocketFile = false
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    if (isSocketFile) fromSocketFiles.add(socket)
    socket.once("close", () => sockets.delete(socket))
    sort(socket, targets)
  })
  server.on("listening", () => {
    isSocketFile = typeof server.address() === "string"
  })
  server.maxConnections = targets.maxConnections
  return { server, sockets }
}

function sort(socket: Socket, targets: PortTargets): void {
  const silent = setTimeout(() => socket.destroy(), FIRST_BYTES_MS)
  // Until a protocol has taken over, nobody else listens for errors; the close event says the rest.
  const onError = () => socket.destroy()
  const done = () => {
    clearTimeout(silent)
    socket.off("readable", onReadable)
    socket.off("error", onError)
    socket.off("close", done)
  }
  let held: Buffer | undefined
  const onReadable = () => {
    const chunk: Buffer | null = socket.read()
    if (chunk === null) return
    held = held === undefined ? chunk : Buffer.concat([held, chunk])
    const seen = Math.min(held.length, PREFACE.length)
    const matches = PREFACE.compare(held, 0, seen, 0, seen) === 0
    if (matches && seen < PREFACE.length) return
    socket.unshift(held)
    done()
    if (matches) targets.http2.accept(socket)
    else targets.http1.emit("connection", socket)
  }
  socket.on("readable", onReadable)
  socket.on("error", onError)
  socket.on("close", done)
}

/**
 * An HTTP server that is handed its connections never hears that it listens, and only then does it begin to watch for slow
 * headers and to know which connections are idle.
 */
export function superviseConnections(http: HttpServer): void {
  http.emit("listening")
}
