/** A PostgreSQL server, 15 to 18. */
import { connect as connectTcp, type Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import pg from "pg"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { postgresCapabilities } from "./capabilities.ts"
import { createEngine, type SqlEngine } from "./engine.ts"
import { Pool } from "./pool.ts"
import { PooledDatabase } from "./pooled-database.ts"
import { Session } from "./session.ts"

/** How {@link openServer} connects. Times in milliseconds. */
export interface ServerOptions {
  /** `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=...`; every sslmode that pg knows. */
  readonly url: string
  /** A login that owns the schema, when that of `url` must not. It may be the same. */
  readonly migrationUrl?: string | undefined
  /** Connections kept although idle. Default 0. */
  readonly min?: number
  /** Most connections. Default 10. */
  readonly max?: number
  /** Most calls that wait for a connection. Default 4096. */
  readonly maxWaiting?: number
  /** An idle connection is closed after this. Default 60 s. */
  readonly idleMs?: number
  /** A connection is replaced after this. Default 30 min. */
  readonly lifetimeMs?: number
  /** Longest wait for a free connection. Default 5 s. */
  readonly acquireMs?: number
  /** Longest time to connect. Default 5 s. */
  readonly connectMs?: number
  /** For the expiry of idempotency records. */
  readonly clock?: Clock
}

/** How long a cancelled statement may take to stop before its connection is dropped. */
const CANCEL_GRACE_MS = 2_000

/**
 * Prepares a pool; connects on first use, so the server may be away at this time.
 */
export async function openServer(options: ServerOptions): Promise<SqlEngine> {
  const config = (connectionString: string): pg.ClientConfig => ({
    connectionString,
    application_name: "keelplane",
    connectionTimeoutMillis: options.connectMs ?? 5_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 30_000,
  })
  const max = options.max ?? 10
  const pool = new Pool({
    connect: () => Session.connect(config(options.url)),
    min: options.min ?? 0,
    max,
    maxWaiting: options.maxWaiting ?? 4096,
    idleMs: options.idleMs ?? 60_000,
    lifetimeMs: options.lifetimeMs ?? 30 * 60_000,
    acquireMs: options.acquireMs ?? 5_000,
  })
  const cancel = (session: Session) => cancelStatement(session, config(options.url))
  return createEngine({
    database: new PooledDatabase({ pool, clock: options.clock ?? systemClock, cancel, serverTimeouts: true }),
    pool,
    capabilities: postgresCapabilities(max),
    asOwner: async (work) => {
      const session = await Session.connect(config(options.migrationUrl ?? options.url))
      try {
        return await work(session)
      } finally {
        await session.close()
      }
    },
    onClose: async () => {},
  })
}

/** Asks the server, over a connection of its own, to stop what `session` runs; drops the session when it does not stop. */
async function cancelStatement(session: Session, config: pg.ClientConfig): Promise<void> {
  const { backend } = session
  if (backend === undefined) return
  const timer = setTimeout(() => session.destroy(), CANCEL_GRACE_MS)
  void session.settled().then(() => clearTimeout(timer))
  await sendCancel(new pg.Client(config), backend)
}

type CancelTarget = Pick<pg.Client, "host" | "port"> & { readonly ssl?: unknown }

/** CancelRequest (80877102) as a message of 16 bytes; the server answers nothing and hangs up. */
async function sendCancel(
  target: CancelTarget,
  backend: { readonly processId: number; readonly secretKey: number },
): Promise<void> {
  const request = Buffer.alloc(16)
  request.writeInt32BE(16, 0)
  request.writeInt32BE(80_877_102, 4)
  request.writeInt32BE(backend.processId, 8)
  request.writeInt32BE(backend.secretKey, 12)
  const socket = await openSocket(target)
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject)
    socket.once("close", () => resolve())
    socket.resume()
    socket.end(request)
  })
}

function openSocket({ host, port, ssl }: CancelTarget): Promise<Socket> {
  const socket = host.startsWith("/") ? connectTcp(`${host}/.s.PGSQL.${port}`) : connectTcp(port, host)
  socket.setTimeout(CANCEL_GRACE_MS, () => socket.destroy())
  return new Promise((resolve, reject) => {
    socket.once("error", reject)
    socket.once("connect", () => {
      if (ssl === undefined || ssl === false) {
        resolve(socket)
        return
      }
      // SSLRequest (80877103); `S` means yes. A cancel in clear text would show the key to the network.
      const ask = Buffer.alloc(8)
      ask.writeInt32BE(8, 0)
      ask.writeInt32BE(80_877_103, 4)
      socket.write(ask)
      socket.once("data", (answer) => {
        if (answer[0] !== "S".charCodeAt(0)) reject(new Error("the server does not support SSL connections"))
        else {
          const secure = connectTls({
            ...(typeof ssl === "object" ? ssl : {}),
            socket,
            host,
            servername: host,
          })
          secure.once("error", reject)
          secure.once("secureConnect", () => resolve(secure))
        }
      })
    })
  })
}
