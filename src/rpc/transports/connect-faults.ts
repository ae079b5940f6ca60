/** What connect-node answers by itself comes without details, or without a body; here it gets the ErrorInfo that all others have. */
import type { IncomingMessage } from "node:http"
import { Code, ConnectError } from "@connectrpc/connect"
import {
  encodeEnvelope,
  type UniversalHandler,
  type UniversalServerResponse,
} from "@connectrpc/connect/protocol"
import {
  codeFromString,
  codeToHttpStatus,
  errorToJson,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect"
import { trailerParse, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web"
import { DomainError, invalidField } from "../../domain/kernel/errors.ts"
import type { Logger } from "../../domain/kernel/logger.ts"
import { undecodable } from "../acceptor.ts"
import { DETAILS_TRAILER, failureTrailers } from "../grpc-wire.ts"
import type { RpcLimits } from "../limits.ts"
import { type RpcStatus, statusOf } from "../status.ts"
import { connectError } from "./connect-call.ts"

/** A Connect timeout, in milliseconds. */
export const TIMEOUT_HEADER = "connect-timeout-ms"

const CONNECT_END_FLAG = 0x02
const GRPC_WEB_TRAILER_FLAG = 0x80
const PREFIX_BYTES = 5

/** What is needed to say what an answer without details means. */
export interface FaultScope {
  /** `package.Service/Method`, for the log. */
  readonly method: string
  /** Type name of the request message. */
  readonly typeName: string
  readonly limits: RpcLimits
  readonly logger: Logger
}

/** The answer with a body and an ErrorInfo, whatever connect-node made of the request. */
export async function explained(
  result: UniversalServerResponse,
  handler: UniversalHandler,
  request: IncomingMessage,
  scope: FaultScope,
): Promise<UniversalServerResponse> {
  if (result.status >= 400 && result.body === undefined) return unservable(result, handler, request)
  const type = result.header?.get("content-type") ?? ""
  const { body } = result
  if (body === undefined || body === null) return result
  if (type.startsWith("application/connect+")) return { ...result, body: eachFrame(body, scope, endFrame) }
  if (type.startsWith("application/grpc-web"))
    return { ...result, body: eachFrame(body, scope, trailerFrame) }
  if (result.status < 400 || type !== "application/json") return result
  return explainedJson(result, body, scope)
}

async function explainedJson(
  result: UniversalServerResponse,
  body: AsyncIterable<Uint8Array>,
  scope: FaultScope,
): Promise<UniversalServerResponse> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  const whole = Buffer.concat(chunks)
  const error = JSON.parse(whole.toString()) as JsonError
  if (isExplained(error)) return { ...result, body: once(whole) }
  const status = meaningOfJson(error, scope)
  const bytes = errorToJsonBytes(connectError(status), undefined)
  const header = new Headers(result.header)
  header.set("content-length", String(bytes.byteLength))
  if (header.get("accept-encoding") === "") header.set("accept-encoding", "identity")
  return { ...result, header, status: codeToHttpStatus(status.code as Code), body: once(bytes) }
}

interface JsonError {
  readonly code?: string
  readonly message?: string
  readonly details?: readonly unknown[]
}

function isExplained(error: JsonError): boolean {
  return error.details !== undefined && error.details.length > 0
}

function meaningOfJson(error: JsonError, scope: FaultScope): RpcStatus {
  return statusOf(meaning(codeFromString(error.code ?? "") ?? Code.Unknown, error.message ?? "", scope))
}

/** The body of a streamed answer, of which connect-node yields one whole envelope at a time. */
async function* eachFrame(
  body: AsyncIterable<Uint8Array>,
  scope: FaultScope,
  explain: (frame: Uint8Array, scope: FaultScope) => Uint8Array,
): AsyncGenerator<Uint8Array> {
  for await (const frame of body) yield explain(frame, scope)
}

function endFrame(frame: Uint8Array, scope: FaultScope): Uint8Array {
  if (frame[0] !== CONNECT_END_FLAG) return frame
  const end = JSON.parse(Buffer.from(frame.subarray(PREFIX_BYTES)).toString()) as { error?: JsonError }
  if (end.error === undefined || isExplained(end.error)) return frame
  const error = errorToJson(connectError(meaningOfJson(end.error, scope)), undefined)
  return encodeEnvelope(CONNECT_END_FLAG, Buffer.from(JSON.stringify({ ...end, error })))
}

function trailerFrame(frame: Uint8Array, scope: FaultScope): Uint8Array {
  if (frame[0] !== GRPC_WEB_TRAILER_FLAG) return frame
  const trailer = trailerParse(frame.subarray(PREFIX_BYTES))
  const code = Number(trailer.get("grpc-status") ?? 0)
  if (code === 0 || trailer.has(DETAILS_TRAILER)) return frame
  const message = decodeURIComponent(trailer.get("grpc-message") ?? "")
  const status = statusOf(meaning(code, message, scope))
  for (const [name, value] of Object.entries(failureTrailers(status))) trailer.set(name, String(value))
  return encodeEnvelope(GRPC_WEB_TRAILER_FLAG, trailerSerialize(trailer))
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** A request stream whose broken frames are failures with a reason. What a vanished peer causes stays as it is. */
export async function* readableRequests(
  requests: AsyncIterable<unknown>,
  scope: FaultScope,
): AsyncGenerator<unknown> {
  try {
    yield* requests
  } catch (cause) {
    if (!(cause instanceof ConnectError) || isGone(cause.code)) throw cause
    throw meaning(cause.code, cause.rawMessage, scope)
  }
}

function isGone(code: Code): boolean {
  return code === Code.Aborted || code === Code.Canceled
}

function meaning(code: Code, message: string, scope: FaultScope): DomainError {
  if (isGone(code)) return new DomainError("CANCELLED", "the caller cancelled")
  if (code === Code.InvalidArgument && message.includes("timeout")) {
    return invalidField(TIMEOUT_HEADER, "must be 1 to 10 digits, in milliseconds")
  }
  // A frame that breaks off, that is missing, that comes twice or that claims a compression nobody announced.
  if (message.startsWith("protocol error") || message.startsWith("received compressed")) {
    return malformed(message.replace("protocol error: ", ""), scope)
  }
  if (code === Code.InvalidArgument) return malformed(message, scope)
  if (message.startsWith("parse binary"))
    return undecodable(scope.typeName, new Error(message), scope.limits.maxDepth)
  if (code === Code.ResourceExhausted) {
    const maximum = String(scope.limits.maxMessageBytes)
    return new DomainError("LIMIT_EXCEEDED", `the message is larger than ${maximum} bytes`, {
      metadata: { limit: "message bytes", maximum },
    })
  }
  if (code === Code.Unimplemented) {
    const text = message.startsWith("unknown compression")
      ? "compressed requests are not taken: send the message without compression (encoding identity)"
      : message
    return new DomainError("UNIMPLEMENTED", text, { metadata: { method: scope.method } })
  }
  scope.logger.error({ method: scope.method, code, cause: message }, "a call failed in the HTTP/1.1 edge")
  return new DomainError("INTERNAL", "internal error")
}

/** What the JSON decoder says names the field and the rule, and nothing that the caller does not know. */
function malformed(message: string, scope: FaultScope): DomainError {
  const failure = undecodable(scope.typeName, new Error(message), scope.limits.maxDepth)
  return new DomainError(failure.reason, `${failure.message}: ${message}`, { metadata: failure.metadata })
}

/** A request that no protocol takes: the answer says which one would be taken. */
function unservable(
  result: UniversalServerResponse,
  handler: UniversalHandler,
  request: IncomingMessage,
): UniversalServerResponse {
  const header = new Headers(result.header)
  header.set("content-type", "application/json")
  if (result.status === 405) header.set("allow", handler.allowedMethods.join(", "))
  const failure =
    result.status === 415
      ? invalidField("content-type", whatToSend(handler, request))
      : new DomainError("UNIMPLEMENTED", whyNot(handler, result.status, request.method ?? ""), {
          metadata: { method: handler.requestPath.slice(1) },
        })
  const bytes = errorToJsonBytes(connectError(statusOf(failure)), undefined)
  header.set("content-length", String(bytes.byteLength))
  return { ...result, header, body: once(bytes) }
}

function whatToSend(handler: UniversalHandler, request: IncomingMessage): string {
  const sent = request.headers["content-type"] ?? ""
  if (handler.method.methodKind !== "unary") {
    return "this RPC streams: send content-type: application/connect+json with its envelopes, or use gRPC"
  }
  if (request.method === "GET") {
    return "a GET carries the message in its query, ?connect=v1&encoding=json&message={...}; or POST it with content-type: application/json"
  }
  if (/^application\/grpc($|[+;])/.test(sent))
    return "gRPC needs HTTP/2: connect without TLS by prior knowledge"
  return "send content-type: application/json"
}

function whyNot(handler: UniversalHandler, status: number, method: string): string {
  if (status === 505)
    return "this RPC streams in both directions, which HTTP/1.1 cannot: use gRPC over HTTP/2"
  if (method !== "GET") return `${method} is not served: use POST`
  return handler.method.methodKind === "unary"
    ? "this RPC is not a mere read: use POST with content-type: application/json"
    : "this RPC streams: use POST with content-type: application/connect+json, or gRPC"
}
