import { createServer as createHttpServer, type Server as HttpServer } from "node:http"
import { type AddressInfo, BlockList, isIP, type Server, type Socket } from "node:net"
import { setTimeout as delay } from "node:timers/promises"
import { ActiveCalls } from "./active-calls.ts"
import type { Authenticator } from "./auth/authenticator.ts"
import { HealthRegistry } from "./builtin/health-registry.ts"
import { createHealthService } from "./builtin/health-service.ts"
import { createReflectionServices } from "./builtin/reflection-service.ts"
import { compileServices } from "./compile.ts"
import type { Service } from "./handler.ts"
import { InFlight } from "./interceptors/limits.ts"
import { DEFAULT_LIMITS, type RpcLimits } from "./limits.ts"
import { MemoryPressure } from "./memory-pressure.ts"
import { OpsServer } from "./ops-server.ts"
import { createPort, superviseConnections } from "./port.ts"
import type { Addresses, RpcServer, ServerOptions, ServerStats } from "./server-options.ts"
import { listening, listenOnSocketFile } from "./socket-file.ts"
import type { Transport, TransportFactory } from "./transport.ts"
import { createConnectHandler } from "./transports/connect.ts"
import { createHttp2Transport } from "./transports/http2.ts"

export type * from "./server-options.ts"

/** How long health watchers have to hear of a drain before their streams are closed. */
const WATCHERS_MS = 20
/** How long callers whose call was cut have to take its status. */
const LAST_STATUS_MS = 500

/** Whether every caller has to show a credential. Only then may strangers reach the port. */
function isRequired(authenticator: Authenticator | undefined): boolean {
  return authenticator !== undefined && authenticator.optional !== true
}

/** Compiles the services and prepares the listeners; nothing is bound before `start`. */
export function createServer(options: ServerOptions): RpcServer {
  return new Edge(options, options.makeTransport ?? createHttp2Transport)
}

class Edge implements RpcServer {
  readonly health = new HealthRegistry()
  readonly #options: ServerOptions
  readonly #active = new ActiveCalls()
  readonly #inFlight = new InFlight()
  readonly #transport: Transport
  readonly #http: HttpServer
  readonly #listeners: { readonly server: Server; readonly sockets: ReadonlySet<Socket> }[] = []
  readonly #ops: OpsServer
  readonly #limits: RpcLimits
  #warmers: (() => void)[]
  #draining = false

  constructor(options: ServerOptions, makeTransport: TransportFactory) {
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    for (const { descriptor } of options.services) this.health.set(descriptor.typeName, true)
    const healthService = createHealthService(this.health)
    const memory = new MemoryPressure(options.memoryShare)
    const compile = (services: readonly Service[]) =>
      compileServices(
        services,
        {
          observer: options.observer,
          logger: options.logger,
          authenticator: options.authenticator,
          tenants: options.tenants,
          limits: this.#limits,
          inFlight: this.#inFlight,
          memory,
          active: this.#active,
        },
        this.#active,
      )
    const visible = [...options.services, healthService]
    const reflection = options.reflection === false ? [] : createReflectionServices(visible)
    const { methods, warmers } = compile([...visible, ...reflection])
    this.#warmers = [...warmers]
    this.#transport = makeTransport(methods, this.#limits)
    this.#http = createHttpServer(
      createConnectHandler(methods, this.#limits, options.logger, {
        localOnly: !isRequired(options.authenticator),
      }),
    )
    superviseConnections(this.#http)
    this.#http.on("request", (_request, response) => {
      response.once("close", () => {
        if (this.#draining) setImmediate(() => this.#http.closeIdleConnections())
      })
    })
    this.#ops = new OpsServer(
      makeTransport(compile([healthService]).methods, this.#limits),
      this.health,
      options,
    )
  }

  async start(): Promise<Addresses> {
    const { tcp, unix, ops } = this.#options.listen
    if (tcp !== undefined && !isRequired(this.#options.authenticator)) refuseOpenBind(tcp.host)
    try {
      if (ops !== undefined) await this.#ops.listen(ops)
      if (unix !== undefined) await listenOnSocketFile(this.#newPort(), unix)
      const bound = tcp === undefined ? undefined : await this.#listenTcp(tcp)
      setImmediate(() => this.#warm())
      return { tcp: bound, unix, ops: this.#ops.address }
    } catch (cause) {
      await this.stop()
      throw cause
    }
  }

  async drain(graceMs: number): Promise<void> {
    const end = Date.now() + graceMs
    this.health.drain()
    this.#draining = true
    for (const { server } of this.#listeners) server.close()
    await delay(Math.min(WATCHERS_MS, graceMs))
    this.#active.abort(false)
    this.#transport.drain()
    this.#http.closeIdleConnections()
    await this.#idleWithin(end - Date.now())
    if (this.#active.size > 0) {
      this.#active.abort(true)
      await this.#idleWithin(LAST_STATUS_MS)
    }
    await this.stop()
  }

  async stop(): Promise<void> {
    this.#warmers = []
    const closed = this.#listeners.map(({ server }) => closing(server))
    this.#transport.close()
    this.#http.closeAllConnections()
    for (const { sockets } of this.#listeners) for (const socket of sockets) socket.destroy()
    await Promise.all([...closed, this.#ops.close()])
    this.#listeners.length = 0
  }

  stats(): ServerStats {
    const connections = this.#listeners.reduce((sum, { sockets }) => sum + sockets.size, 0)
    return { inFlight: this.#inFlight.calls, streams: this.#inFlight.streams, connections }
  }

  /** No call waits and every answer has left: connections close by themselves once their last frame is written. */
  async #idle(): Promise<void> {
    await this.#active.idle()
    const sockets = this.#listeners.flatMap((listener) => [...listener.sockets])
    await Promise.all(
      sockets.map((socket) => {
        return socket.destroyed ? undefined : new Promise((resolve) => socket.once("close", resolve))
      }),
    )
  }

  async #idleWithin(ms: number): Promise<void> {
    const timer = new AbortController()
    const limit = delay(Math.max(0, ms), undefined, { signal: timer.signal }).catch(() => {})
    await Promise.race([this.#idle(), limit])
    timer.abort()
  }

  /** Compiles one type's rules per turn, so that calls that come meanwhile wait for one at the most. */
  #warm(): void {
    const warm = this.#warmers.pop()
    if (warm === undefined) return
    try {
      warm()
    } catch (err) {
      this.#options.logger.error({ err }, "the field rules of a message do not compile")
    }
    setImmediate(() => this.#warm())
  }

  #newPort(): Server {
    const port = createPort({
      http2: this.#transport,
      http1: this.#http,
      maxConnections: this.#limits.maxConnections,
    })
    this.#listeners.push(port)
    return port.server
  }

  async #listenTcp(tcp: { readonly host: string; readonly port: number }): Promise<Addresses["tcp"]> {
    const server = this.#newPort()
    await listening(server, () => server.listen({ host: tcp.host, port: tcp.port }))
    return { host: tcp.host, port: (server.address() as AddressInfo).port }
  }
}

function closing(server: Server): Promise<void> {
  return new Promise((resolve) => {
    if (server.listening) server.close(() => resolve())
    else resolve()
  })
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet("127.0.0.0", 8, "ipv4")
LOOPBACK.addAddress("::1", "ipv6")

function refuseOpenBind(host: string): void {
  if (host === "localhost" || (isIP(host) !== 0 && LOOPBACK.check(host, isIP(host) === 6 ? "ipv6" : "ipv4")))
    return
  throw new Error(
    `refusing to listen on ${host}: without authentication only loopback addresses and socket files are served`,
  )
}
