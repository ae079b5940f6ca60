/** The edge for curl and browsers: Connect, gRPC-Web and JSON over HTTP/1.1, by connect-node, into the same handlers. */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http"
import { base64Decode } from "@bufbuild/protobuf/wire"
import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
} from "@connectrpc/connect"
import type { UniversalHandler } from "@connectrpc/connect/protocol"
import { errorToJsonBytes } from "@connectrpc/connect/protocol-connect"
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Logger } from "../../domain/kernel/logger.ts"
import { recursionLimit } from "../acceptor.ts"
import type { CompiledMethod } from "../compile.ts"
import { unknownMethod } from "../grpc-wire.ts"
import type { RpcLimits } from "../limits.ts"
import { isFromSocketFile } from "../port.ts"
import { type RpcStatus, statusOf } from "../status.ts"
import type { Methods } from "../transport.ts"
import { ConnectSingleAnswerCall, ConnectStreamAnswerCall, connectError } from "./connect-call.ts"
import { explained, type FaultScope, readableRequests, TIMEOUT_HEADER } from "./connect-faults.ts"
import { foreignRequest } from "./connect-local.ts"

const LONGEST_TIMEOUT_MS = 24 * 24 * 3_600_000
const PEER = createContextKey("")

/** How the edge is exposed. */
export interface ConnectOptions {
  /** Authentication is off: then a page that a browser fetched from elsewhere must not reach the daemon. */
  readonly localOnly: boolean
}

interface Target {
  readonly handler: UniversalHandler
  readonly scope: FaultScope
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
  const scopes = new Map<string, FaultScope>()
  for (const method of methods.values()) {
    const { desc } = method
    const name = `${desc.parent.typeName}/${desc.name}`
    const scope = { method: name, typeName: desc.input.typeName, limits, logger }
    scopes.set(`/${name}`, scope)
    router.rpc(desc, implementation(method, scope) as never)
  }
  const handlers = new Map<string, Target>()
  for (const handler of router.handlers) {
    const scope = scopes.get(handler.requestPath)
    if (scope !== undefined) handlers.set(handler.requestPath, { handler, scope })
  }
  return (request, response) => {
    serve(handlers, options, request, response).catch((err: unknown) => {
      // The peer has gone, or the answer could not be written: there is nobody to tell.
      if (!response.destroyed && !response.writableEnded) logger.warn({ err }, "an HTTP/1.1 answer broke off")
      response.destroy()
    })
  }
}

function implementation(
  method: CompiledMethod,
  scope: FaultScope,
): (request: unknown, context: HandlerContext) => unknown {
  if (method.kind === "unary" || method.kind === "client_streaming") {
    return (sent, context) =>
      new Promise((resolve, reject) => {
        const peer = context.values.get(PEER)
        const request =
          method.kind === "unary" ? sent : readableRequests(sent as AsyncIterable<unknown>, scope)
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
  handlers: ReadonlyMap<string, Target>,
  options: ConnectOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url?.split("?", 1)[0] ?? ""
  const foreign = options.localOnly ? foreignRequest(request) : undefined
  if (foreign !== undefined) return answer(response, 403, statusOf(foreign))
  const target = handlers.get(path)
  if (target === undefined) return answer(response, 404, unknownMethod(path))
  const unreadable = unreadableUrl(request)
  if (unreadable !== undefined) return answer(response, 400, statusOf(unreadable))
  clampTimeout(request)
  const peer = isFromSocketFile(request.socket) ? "unix" : (request.socket.remoteAddress ?? "")
  const values = createContextValues().set(PEER, peer)
  const { handler, scope } = target
  const result = await handler(universalRequestFromNodeRequest(request, response, undefined, values))
  await universalResponseToNodeResponse(await explained(result, handler, request, scope), response)
}

/** connect-node takes a host or a message of a GET that it cannot read for its own failure. */
function unreadableUrl(request: IncomingMessage): DomainError | undefined {
  // HTTP/1.0 needs no Host; connect-node does, if only to have a whole URL.
  request.headers.host ??= "localhost"
  const url = URL.parse(request.url ?? "", `http://${request.headers.host}`)
  if (url === null)
    return new DomainError("MALFORMED_MESSAGE", "the request's host or path is not one of a URL")
  if (request.method !== "GET" || url.searchParams.get("base64") !== "1") return undefined
  try {
    base64Decode(url.searchParams.get("message") ?? "")
    return undefined
  } catch (cause) {
    return new DomainError("MALFORMED_MESSAGE", "the query parameter message is not base64", { cause })
  }
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
