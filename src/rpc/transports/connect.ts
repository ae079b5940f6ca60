/** The edge for curl and browsers: Connect, gRPC-Web and JSON over HTTP/1.1, by connect-node, into the same handlers. */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http"
import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect"
import type { UniversalHandler, UniversalServerResponse } from "@connectrpc/connect/protocol"
import { errorToJsonBytes } from "@connectrpc/connect/protocol-connect"
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node"
import { DomainError, invalidField } from "../../domain/kernel/errors.ts"
import type { Logger } from "../../domain/kernel/logger.ts"
import { recursionLimit, undecodable } from "../acceptor.ts"
import type { CompiledMethod } from "../compile.ts"
import { unknownMethod } from "../grpc-wire.ts"
import type { RpcLimits } from "../limits.ts"
import { type RpcStatus, statusOf } from "../status.ts"
import type { Methods } from "../transport.ts"
import { ConnectSingleAnswerCall, ConnectStreamAnswerCall, connectError } from "./connect-call.ts"

const LONGEST_TIMEOUT_MS = 24 * 24 * 3_600_000
const TIMEOUT_HEADER = "connect-timeout-ms"
const PEER = createContextKey("")

/** How the edge is exposed. */
export interface ConnectOptions {
  /** Authentication is off: then a page that a browser fetched from elsewhere must not reach the daemon by DNS rebinding. */
  readonly localOnly: boolean
}

/** A listener for an HTTP/1.1 server. */
export function createConnectHandler(
  methods: Methods,
  limits: RpcLimits,
  logger: Logger,
  options: ConnectOptions,
): RequestListener {
  const router = createConnectRouter({
    grpc: false,
    acceptCompression: [],
    readMaxBytes: limits.maxMessageBytes,
    writeMaxBytes: limits.maxMessageBytes,
    maxTimeoutMs: LONGEST_TIMEOUT_MS,
    jsonOptions: { recursionLimit: recursionLimit(limits.maxDepth), ignoreUnknownFields: false },
    binaryOptions: { recursionLimit: recursionLimit(limits.maxDepth), readUnknownFields: false },
  })
  for (const method of methods.values()) router.rpc(method.desc, implementation(method) as never)
  const handlers = new Map(router.handlers.map((each) => [each.requestPath, each]))
  return (request, response) => {
    serve(handlers, limits, options, request, response).catch((err: unknown) => {
      // The peer has gone, or the answer could not be written: there is nobody to tell.
      if (!response.destroyed && !response.writableEnded) logger.warn({ err }, "an HTTP/1.1 answer broke off")
      response.destroy()
    })
  }
}

function implementation(method: CompiledMethod): (request: unknown, context: HandlerContext) => unknown {
  if (method.kind === "unary" || method.kind === "client_streaming") {
    return (request, context) =>
      new Promise((resolve, reject) => {
        const peer = context.values.get(PEER)
        method.run(new ConnectSingleAnswerCall(method, request, context, peer, { resolve, reject }))
      })
  }
  return (request, context) => {
    const call = new ConnectStreamAnswerCall(method, request, context, context.values.get(PEER))
    method.run(call)
    return call
  }
}

async function serve(
  handlers: ReadonlyMap<string, UniversalHandler>,
  limits: RpcLimits,
  options: ConnectOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url?.split("?", 1)[0] ?? ""
  if (options.localOnly && !isLocalHost(request)) return answer(response, 403, foreignHost())
  const handler = handlers.get(path)
  if (handler === undefined) return answer(response, 404, unknownMethod(path))
  clampTimeout(request)
  const values = createContextValues().set(PEER, request.socket.remoteAddress ?? "unix")
  const result = await handler(universalRequestFromNodeRequest(request, response, undefined, values))
  await universalResponseToNodeResponse(await explained(result, handler, limits), response)
}

/** Loopback names only; a socket file cannot be reached by a browser. */
function isLocalHost(request: IncomingMessage): boolean {
  if (request.socket.remoteAddress === undefined) return true
  const host = (request.headers.host ?? "").replace(/:\d+$/, "").toLowerCase()
  return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host)
}

function foreignHost(): RpcStatus {
  return statusOf(
    new DomainError(
      "PERMISSION_DENIED",
      "without authentication only requests to a loopback host name are served",
      {
        metadata: { permission: "local" },
      },
    ),
  )
}

function clampTimeout(request: IncomingMessage): void {
  const header = request.headers[TIMEOUT_HEADER]
  if (typeof header === "string" && /^\d+$/.test(header) && Number(header) > LONGEST_TIMEOUT_MS) {
    request.headers[TIMEOUT_HEADER] = String(LONGEST_TIMEOUT_MS)
  }
}

function answer(response: ServerResponse, code: number, status: RpcStatus): void {
  response.writeHead(code, { "content-type": "application/json" })
  response.end(errorToJsonBytes(connectError(status), undefined))
}

/** connect-node answers unreadable requests by itself and without details; here they get the ErrorInfo that all others have. */
async function explained(
  result: UniversalServerResponse,
  handler: UniversalHandler,
  limits: RpcLimits,
): Promise<UniversalServerResponse> {
  if (result.status < 400 || result.header?.get("content-type") !== "application/json") return result
  const chunks: Uint8Array[] = []
  for await (const chunk of result.body ?? []) chunks.push(chunk)
  const whole = Buffer.concat(chunks)
  const body = JSON.parse(whole.toString()) as { code?: string; message?: string; details?: unknown[] }
  if (body.details !== undefined && body.details.length > 0) return { ...result, body: once(whole) }
  const status = meaning(body.code ?? "", body.message ?? "", handler.method.input.typeName, limits)
  const bytes = errorToJsonBytes(connectError(status), undefined)
  result.header.set("content-length", String(bytes.byteLength))
  return { ...result, status: status.code === 13 ? 500 : status.code === 12 ? 501 : 400, body: once(bytes) }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

function meaning(code: string, message: string, typeName: string, limits: RpcLimits): RpcStatus {
  if (code === "invalid_argument" && message.includes("timeout")) {
    return statusOf(invalidField(TIMEOUT_HEADER, "must be 1 to 10 digits, in milliseconds"))
  }
  if (code === "invalid_argument" || message.startsWith("parse binary")) {
    // What the JSON decoder says names the field and the rule, and nothing that the caller does not know.
    const failure = undecodable(typeName, new Error(message), limits.maxDepth)
    const text = code === "invalid_argument" ? `${failure.message}: ${message}` : failure.message
    return statusOf(new DomainError(failure.reason, text, { metadata: failure.metadata }))
  }
  if (code === "resource_exhausted") {
    const maximum = String(limits.maxMessageBytes)
    return statusOf(
      new DomainError("LIMIT_EXCEEDED", `the message is larger than ${maximum} bytes`, {
        metadata: { limit: "message bytes", maximum },
      }),
    )
  }
  if (code === "unimplemented") return statusOf(new DomainError("UNIMPLEMENTED", message))
  return statusOf(new DomainError("INTERNAL", "internal error"))
}
