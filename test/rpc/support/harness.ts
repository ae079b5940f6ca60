import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { create } from "@bufbuild/protobuf"
import { createServer, type RpcServer, type ServerOptions } from "../../../src/rpc/server.ts"
import { createGrpcJsTransport } from "../../../src/rpc/transports/grpc-js.ts"
import { createHttp2Transport } from "../../../src/rpc/transports/http2.ts"
import { grpcClient, jsonClient, type Outcome, type UnaryCall, type UnaryClient } from "./clients.ts"
import { createProbe, type Echo, EchoRequestDesc, EchoResponseDesc, ProbeLog } from "./probe.ts"

/** The ways into a server that the suite takes. `json` is the edge, the others are gRPC. */
export type Way = "grpc-js tcp" | "grpc-js unix" | "http2 tcp" | "http2 unix" | "json tcp" | "json unix"

/** Every way. Fetch cannot speak to a socket file, so the edge is reached by TCP. */
export const GRPC_WAYS: readonly Way[] = ["grpc-js tcp", "http2 tcp", "http2 unix"]
export const WAYS: readonly Way[] = [...GRPC_WAYS, "json tcp"]

/** A running server with the probe service, and a client. */
export interface Edge {
  readonly server: RpcServer
  readonly client: UnaryClient
  readonly log: ProbeLog
  readonly logged: { readonly message: string; readonly fields: Readonly<Record<string, unknown>> }[]
  readonly target: string
  readonly socketFile: string
  readonly tcp: { readonly host: string; readonly port: number }
  readonly ops: { readonly host: string; readonly port: number }
  echo(request: Echo, options?: Partial<UnaryCall> & { method?: string }): Promise<Outcome>
  [Symbol.asyncDispose](): Promise<void>
}

/** Starts a server on free ports and connects the client of the given way. */
export async function open(way: Way, options: Partial<ServerOptions> = {}): Promise<Edge> {
  const log = new ProbeLog()
  const logged: { message: string; fields: Readonly<Record<string, unknown>> }[] = []
  const write = (fields: Readonly<Record<string, unknown>>, message: string) =>
    logged.push({ fields, message })
  const folder = mkdtempSync(join(tmpdir(), "keelplane-rpc-"))
  const server = createServer({
    services: [createProbe(log)],
    listen: {
      tcp: { host: "127.0.0.1", port: 0 },
      unix: join(folder, "s"),
      ops: { host: "127.0.0.1", port: 0 },
    },
    logger: { info: write, warn: write, error: write },
    makeTransport: way.startsWith("grpc-js") ? createGrpcJsTransport : createHttp2Transport,
    ...options,
  })
  const { tcp, ops } = await server.start()
  if (tcp === undefined || ops === undefined) throw new Error("the server did not bind")
  const target = way.endsWith("unix") ? `unix:${join(folder, "s")}` : `127.0.0.1:${tcp.port}`
  const client = way.startsWith("json") ? jsonClient(`http://${target}`) : grpcClient(target)
  return {
    server,
    client,
    log,
    logged,
    target,
    socketFile: join(folder, "s"),
    tcp,
    ops,
    echo: (request, call) =>
      client.call({
        path: `/keelplane.probe.v1.ProbeService/${call?.method ?? "Echo"}`,
        input: EchoRequestDesc,
        output: EchoResponseDesc,
        request: create(EchoRequestDesc, request as Record<string, unknown>),
        ...call,
      }),
    async [Symbol.asyncDispose]() {
      client.close()
      await server.stop()
      rmSync(folder, { recursive: true })
    },
  }
}
