import type { IncomingHttpHeaders, ServerHttp2Stream, ServerOptions } from "node:http2"
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
} from "@grpc/grpc-js"
import type { CompiledMethod } from "../compile.ts"
import { badTimeout, parseTimeout, respondTrailersOnly, unknownMethod } from "../grpc-wire.ts"
import { type RpcLimits, stormOptions } from "../limits.ts"
import type { Methods, Transport } from "../transport.ts"
import {
  DEADLINE_SLACK_MS,
  SingleAnswerCall,
  type SingleAnswerSurface,
  StreamAnswerCall,
  type StreamAnswerSurface,
} from "./grpc-js-call.ts"

const LONGEST_TIMEOUT_MS = 24 * 24 * 3_600_000
/** A grpc-timeout has at most eight digits. */
const MAX_TIMEOUT_DIGITS = 100_000_000

/** What this file uses beyond the public API of the pinned version; {@link internals} refuses a version without it. */
interface Internals {
  commonServerOptions: ServerOptions
  _streamHandler: StreamHandler
}

type StreamHandler = (
  interceptors: unknown[],
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
) => void

function internals(server: Server): Internals {
  const inside = server as unknown as Internals
  if (typeof inside.commonServerOptions !== "object" || typeof inside._streamHandler !== "function") {
    throw new Error("this version of @grpc/grpc-js is not the one this transport was written for")
  }
  return inside
}

/** gRPC on @grpc/grpc-js. Requests arrive undecoded, so that malformed bytes are answered by our own chain. */
export function createGrpcJsTransport(methods: Methods, limits: RpcLimits): Transport {
  const server = new Server({
    "grpc.max_receive_message_length": limits.maxMessageBytes,
    "grpc.max_send_message_length": -1,
    "grpc.max_concurrent_streams": limits.maxStreamsPerConnection,
    "grpc-node.max_session_memory": limits.sessionMemoryMb,
    "grpc.enable_channelz": 0,
  })
  const inside = internals(server)
  Object.assign(inside.commonServerOptions, stormOptions(limits))
  guardStreams(inside, methods)
  for (const method of methods.values()) register(server, method)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  return {
    accept: (connection) => injector.injectConnection(connection),
    drain: () => injector.drain(LONGEST_TIMEOUT_MS),
    close() {
      injector.destroy()
      server.forceShutdown()
    },
  }
}

/** Answers what grpc-js itself would answer without details or wrongly: unknown paths and odd timeouts. */
function guardStreams(inside: Internals, methods: Methods): void {
  const handle = inside._streamHandler
  inside._streamHandler = function guarded(this: unknown, interceptors, stream, headers) {
    const path = headers[":path"] ?? ""
    if (!methods.has(path) && isGrpc(headers)) {
      refuse(stream, unknownMethod(path))
      return
    }
    const timeoutMs = parseTimeout(headers["grpc-timeout"] as string | undefined)
    if (timeoutMs !== undefined) {
      if (Number.isNaN(timeoutMs)) {
        refuse(stream, badTimeout())
        return
      }
      headers["grpc-timeout"] = laterTimeout(timeoutMs)
    }
    handle.call(this, interceptors, stream, headers)
  }
}

/**
 * What grpc-js is told instead: it answers a deadline without details, so it comes second. Longer ones overflow its timer, and
 * then it answers at once.
 */
function laterTimeout(timeoutMs: number): string {
  const later = Math.ceil(Math.min(timeoutMs, LONGEST_TIMEOUT_MS)) + DEADLINE_SLACK_MS
  return later < MAX_TIMEOUT_DIGITS ? `${later}m` : `${Math.ceil(later / 1000)}S`
}

function isGrpc(headers: IncomingHttpHeaders): boolean {
  return headers["content-type"]?.startsWith("application/grpc") ?? false
}

function refuse(stream: ServerHttp2Stream, status: Parameters<typeof respondTrailersOnly>[1]): void {
  // The peer may reset while the answer is on its way; its close event is all there is to know.
  stream.on("error", () => {})
  stream.resume()
  respondTrailersOnly(stream, status)
}

const identity = (bytes: Buffer): Buffer => bytes

function register(server: Server, method: CompiledMethod): void {
  const single: handleUnaryCall<Buffer, Buffer> & handleClientStreamingCall<Buffer, Buffer> = (
    call: SingleAnswerSurface,
    callback,
  ) => method.run(new SingleAnswerCall(method, call, callback))
  const stream: handleServerStreamingCall<Buffer, Buffer> & handleBidiStreamingCall<Buffer, Buffer> = (
    call: StreamAnswerSurface,
  ) => method.run(new StreamAnswerCall(method, call))
  const kinds = {
    unary: [single, "unary"],
    client_streaming: [single, "clientStream"],
    server_streaming: [stream, "serverStream"],
    bidi_streaming: [stream, "bidi"],
  } as const
  const [handler, kind] = kinds[method.kind]
  server.register<Buffer, Buffer>(method.path, handler, identity, identity, kind)
}
