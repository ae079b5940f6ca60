/** Cancel requests: how PostgreSQL is asked, over a connection beside the session's, to stop what the session runs. */
import { once } from "node:events"
import { connect as connectTcp, isIP, type Socket } from "node:net"
import { type ConnectionOptions, connect as connectTls } from "node:tls"
import type { ServerAddress } from "./connection.ts"
import type { Session } from "./session.ts"

/** How long a cancelled statement may take to stop before its connection is dropped. */
const GRACE_MS = 2_000

const SSL_REQUEST = 80_877_103
const CANCEL_REQUEST = 80_877_102

/**
 * Stops what `session` runs, and drops the session when that does not stop in time. Resolves when the request is out; rejects when it
 * could not be sent.
 */
export async function cancelStatement(session: Session, address: ServerAddress): Promise<void> {
  const { backend } = session
  if (backend === undefined) return
  const timer = setTimeout(() => session.destroy(), GRACE_MS)
  void session.settled().then(() => clearTimeout(timer))
  const signal = AbortSignal.timeout(GRACE_MS)
  const plain = openSocket(address, session.peer)
  try {
    await once(plain, "connect", { signal })
    const socket = address.ssl === false ? plain : await secure(plain, address, address.ssl, signal)
    socket.resume()
    // The server answers nothing and hangs up. Our end stays open until then: PgBouncer forgets a request whose sender has gone, and
    // 1.18 ends itself over one that goes at the wrong moment.
    const closed = once(socket, "close", { signal })
    socket.write(int32s(16, CANCEL_REQUEST, backend.processId, backend.secretKey))
    await closed
  } finally {
    plain.destroy()
  }
}

function openSocket({ host, port }: ServerAddress, peer: Session["peer"]): Socket {
  if (host.startsWith("/")) return connectTcp(`${host}/.s.PGSQL.${port}`)
  // A name may stand for several servers, or for another one by now.
  return connectTcp(peer?.port ?? port, peer?.host ?? host)
}

/** A cancel in clear text would show the session's key to the network. */
async function secure(
  socket: Socket,
  { host }: ServerAddress,
  ssl: ConnectionOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const answered = once(socket, "data", { signal })
  socket.write(int32s(8, SSL_REQUEST))
  const [answer] = await answered
  if (String(answer) !== "S") throw new Error("the server does not support SSL connections")
  const tls = connectTls({ ...ssl, socket, ...(isIP(host) === 0 ? { servername: host } : {}) })
  await once(tls, "secureConnect", { signal })
  return tls
}

function int32s(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [index, value] of values.entries()) bytes.writeInt32BE(value, index * 4)
  return bytes
}
