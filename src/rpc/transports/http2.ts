/** gRPC straight on node:http2, whose HTTP/2 is nghttp2: little between a stream and its call. */
import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type ServerOptions,
} from "node:http2"
import type { Duplex } from "node:stream"
import { DomainError } from "../../domain/kernel/errors.ts"
import { badTimeout, NO_BODY, parseTimeout, respondTrailersOnly, unknownMethod } from "../grpc-wire.ts"
import { type RpcLimits, stormOptions } from "../limits.ts"
import { peerOf } from "../port.ts"
import { type RpcStatus, statusOf } from "../status.ts"
import type { Methods, Transport } from "../transport.ts"
import { ACCEPTED_ENCODINGS, type Unpacker, unpackerOf } from "./grpc-encodings.ts"
import { Http2Call } from "./http2-call.ts"
import { readMany, readOne } from "./http2-requests.ts"
import { letLinger, UnfinishedStreams } from "./unfinished.ts"

const HTTP_METHOD_NOT_ALLOWED = 405
const HTTP_UNSUPPORTED_MEDIA_TYPE = 415
const GRPC = /^application\/grpc(\+proto)?\s*(;|$)/i
const GRPC_OF_ANOTHER_KIND = /^application\/grpc\+/i

/** gRPC on node:http2. */
export function createHttp2Transport(methods: Methods, limits: RpcLimits): Transport {
  return new Http2Transport(methods, limits)
}

/** A stream that was reset and a connection that broke close, too; the close is what calls listen to. */
function ignore(): void {}

/** A stream that has just been opened, and what came with it. */
interface Opened {
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  readonly peer: string
  readonly unfinished: UnfinishedStreams
}

class Http2Transport implements Transport {
  readonly #methods: Methods
  readonly #limits: RpcLimits
  readonly #options: ServerOptions
  readonly #sessions = new Set<ServerHttp2Session>()
  readonly #unfinished = new UnfinishedStreams()
  #draining = false

  constructor(methods: Methods, limits: RpcLimits) {
    this.#methods = methods
    this.#limits = limits
    this.#options = {
      maxSessionMemory: limits.sessionMemoryMb,
      settings: { maxConcurrentStreams: limits.maxStreamsPerConnection },
      ...stormOptions(limits),
    }
  }

  accept(connection: Duplex): void {
    const peer = peerOf(connection)
    const session = performServerHandshake(connection, this.#options)
    this.#sessions.add(session)
    session.on("error", ignore)
    session.on("close", () => this.#sessions.delete(session))
    session.on("stream", (stream, headers) =>
      this.#serve({ stream, headers, peer, unfinished: this.#unfinished }),
    )
    if (this.#draining) session.close()
  }

  drain(): void {
    this.#draining = true
    for (const session of this.#sessions) session.close()
  }

  close(): void {
    this.#draining = true
    for (const session of this.#sessions) session.destroy()
  }

  #serve(opened: Opened): void {
    const { stream, headers } = opened
    stream.on("error", ignore)
    if (!isCall(opened)) return
    const path = headers[":path"] ?? ""
    const method = this.#methods.get(path)
    if (method === undefined) {
      refuse(opened, unknownMethod(path))
      return
    }
    const timeoutMs = parseTimeout(headers["grpc-timeout"] as string | undefined)
    if (Number.isNaN(timeoutMs)) {
      refuse(opened, badTimeout())
      return
    }
    const unpacker = acceptedUnpacker(opened)
    if (unpacker === null) return
    const arrivedMs = Date.now()
    const deadlineMs = timeoutMs === undefined ? Number.POSITIVE_INFINITY : arrivedMs + timeoutMs
    const maxBytes = this.#limits.maxMessageBytes
    if (method.kind === "unary" || method.kind === "server_streaming") {
      readOne(
        { stream, maxBytes, unpacker, deadlineMs, arrivedMs, unfinished: this.#unfinished },
        {
          onMessage: (raw, nowMs) =>
            method.run(new Http2Call(method, opened, { deadlineMs, arrivedMs: nowMs, raw })),
          onFailure: (failure) => refuse(opened, statusOfFailure(failure)),
        },
      )
    } else {
      const incoming = readMany({ stream, maxBytes, unpacker })
      method.run(new Http2Call(method, opened, { deadlineMs, arrivedMs, incoming }))
    }
  }
}

/** Whether a stream is a gRPC call in the format that is served; it is answered where it is not. */
function isCall(opened: Opened): boolean {
  const { stream, headers } = opened
  const type = headers["content-type"] ?? ""
  if (type !== "application/grpc" && !GRPC.test(type)) {
    if (GRPC_OF_ANOTHER_KIND.test(type)) {
      const message = "messages are taken as application/grpc or application/grpc+proto"
      refuse(opened, statusOf(new DomainError("UNIMPLEMENTED", message)))
    } else reject(stream, HTTP_UNSUPPORTED_MEDIA_TYPE)
    return false
  }
  if (headers[":method"] !== "POST") {
    reject(stream, HTTP_METHOD_NOT_ALLOWED)
    return false
  }
  return true
}

/** What unpacks the call's messages, if anything has to; null for a call that was refused. */
function acceptedUnpacker(opened: Opened): Unpacker | undefined | null {
  try {
    return unpackerOf(opened.headers["grpc-encoding"] as string | undefined)
  } catch (failure) {
    refuse(opened, statusOfFailure(failure), { "grpc-accept-encoding": ACCEPTED_ENCODINGS })
    return null
  }
}

function statusOfFailure(failure: unknown): RpcStatus {
  return statusOf(failure instanceof DomainError ? failure : new DomainError("INTERNAL", "internal error"))
}

function refuse(
  { stream, unfinished }: Opened,
  status: RpcStatus,
  headers?: Readonly<Record<string, string>>,
): void {
  respondTrailersOnly(stream, status, headers)
  if (!stream.readableEnded) letLinger(stream, unfinished, true)
}

/** Answers what is no gRPC. */
function reject(stream: ServerHttp2Stream, httpStatus: number): void {
  stream.resume()
  if (stream.destroyed || stream.closed) return
  stream.respond({ ":status": httpStatus }, NO_BODY)
}
