/** The port for the kubelet and for Prometheus: plain HTTP/1.1 and grpc.health.v1, nothing else. */
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo, Server, Socket } from "node:net"
import type { Logger } from "../domain/kernel/logger.ts"
import type { HealthRegistry } from "./builtin/health-registry.ts"
import { createPort, superviseConnections } from "./port.ts"
import type { NotReady, OpsSources } from "./server-options.ts"
import { listening } from "./socket-file.ts"
import type { Transport } from "./transport.ts"

const MAX_CONNECTIONS = 128

/** Serves /livez, /readyz and /metrics. Liveness asks only whether the event loop turns. */
export class OpsServer {
  readonly #http: HttpServer
  readonly #port: { readonly server: Server; readonly sockets: ReadonlySet<Socket> }
  readonly #grpc: Transport
  readonly #health: HealthRegistry
  readonly #sources: OpsSources
  readonly #logger: Logger
  #address: { readonly host: string; readonly port: number } | undefined

  constructor(
    grpc: Transport,
    health: HealthRegistry,
    options: { readonly logger: Logger; readonly ops?: OpsSources | undefined },
  ) {
    this.#grpc = grpc
    this.#health = health
    this.#logger = options.logger
    this.#sources = options.ops ?? {}
    this.#http = createServer({ requestTimeout: 10_000 }, (request, response) => {
      this.#answer(request, response).catch((err: unknown) => this.#failed(err, response))
    })
    superviseConnections(this.#http)
    this.#port = createPort({ http2: grpc, http1: this.#http, maxConnections: MAX_CONNECTIONS })
  }

  /** Where it listens; undefined while it does not. */
  get address(): { readonly host: string; readonly port: number } | undefined {
    return this.#address
  }

  /** Binds the port; rejects where it is taken. */
  async listen({ host, port }: { readonly host: string; readonly port: number }): Promise<void> {
    await listening(this.#port.server, () => this.#port.server.listen({ host, port }))
    this.#address = { host, port: (this.#port.server.address() as AddressInfo).port }
  }

  /** Closes the port and every connection to it. */
  async close(): Promise<void> {
    const { server, sockets } = this.#port
    const closed = new Promise<void>((resolve) => {
      if (server.listening) server.close(() => resolve())
      else resolve()
    })
    this.#grpc.close()
    this.#http.closeAllConnections()
    for (const socket of sockets) socket.destroy()
    await closed
    this.#address = undefined
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== "GET" && request.method !== "HEAD") return send(response, 405, text("only GET\n"))
    switch (request.url?.split("?", 1)[0]) {
      case "/livez":
        return send(response, 200, text("ok\n"))
      case "/readyz":
        return this.#ready(response)
      case "/metrics":
        return this.#metrics(response)
      default:
        return send(response, 404, text("there are /livez, /readyz and /metrics\n"))
    }
  }

  async #ready(response: ServerResponse): Promise<void> {
    const notReady: NotReady[] = [...((await this.#sources.readiness?.()) ?? [])]
    if (this.#health.get("") !== true) notReady.push({ part: "daemon", reason: "does not accept calls" })
    const ready = notReady.length === 0
    const services = Object.fromEntries([...this.#health.list()].filter(([name]) => name !== ""))
    const body = `${JSON.stringify({ ready, notReady, services })}\n`
    send(response, ready ? 200 : 503, { contentType: "application/json", body })
  }

  async #metrics(response: ServerResponse): Promise<void> {
    if (this.#sources.metrics === undefined) return send(response, 404, text("metrics are off\n"))
    send(response, 200, await this.#sources.metrics())
  }

  #failed(err: unknown, response: ServerResponse): void {
    this.#logger.error({ err }, "an ops request failed")
    if (response.headersSent) response.destroy()
    else send(response, 500, text("internal error\n"))
  }
}

function text(body: string): { contentType: string; body: string } {
  return { contentType: "text/plain; charset=utf-8", body }
}

function send(
  response: ServerResponse,
  status: number,
  content: { readonly contentType: string; readonly body: string },
): void {
  response.writeHead(status, { "content-type": content.contentType, "cache-control": "no-store" })
  response.end(content.body)
}
