import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2"
import { DomainError } from "../../domain/kernel/errors.ts"
import { Call } from "../call.ts"
import type { CompiledMethod } from "../compile.ts"
import { failureTrailers, NO_DATE, respondTrailersOnly } from "../grpc-wire.ts"
import type { RpcStatus } from "../status.ts"
import { PREFIX_BYTES, prefixed } from "./grpc-frames.ts"
import { letLinger, type UnfinishedStreams } from "./unfinished.ts"

const HEADERS: OutgoingHttpHeaders = Object.freeze({
  ":status": 200,
  "content-type": "application/grpc+proto",
})
const WITH_TRAILERS = Object.freeze({ ...NO_DATE, waitForTrailers: true })
const NO_HEADERS: IncomingHttpHeaders = Object.freeze({})
const OK: Readonly<Record<string, string | number>> = Object.freeze({ "grpc-status": "0" })

/** A call on a bare HTTP/2 stream. */
export class Http2Call extends Call {
  raw: unknown
  readonly incoming: AsyncIterable<unknown> | undefined
  readonly peer: string
  readonly #stream: ServerHttp2Stream
  #headers: IncomingHttpHeaders
  readonly #unfinished: UnfinishedStreams
  #trailers = OK
  #unblock: (() => void) | undefined

  constructor(
    compiled: CompiledMethod,
    on: {
      readonly stream: ServerHttp2Stream
      readonly headers: IncomingHttpHeaders
      readonly peer: string
      readonly unfinished: UnfinishedStreams
    },
    request: {
      readonly deadlineMs: number
      readonly arrivedMs: number
      readonly raw?: Buffer
      readonly incoming?: AsyncIterable<Buffer>
    },
  ) {
    super(compiled, request.deadlineMs, request.arrivedMs)
    this.raw = request.raw
    this.incoming = request.incoming
    this.peer = on.peer
    this.#stream = on.stream
    this.#headers = on.headers
    this.#unfinished = on.unfinished
  }

  header(name: string): string | undefined {
    const value = this.#headers[name]
    const first = Array.isArray(value) ? value[0] : value
    // Binary values come with or without padding.
    if (first === undefined || !name.endsWith("-bin")) return first
    return Buffer.from(first.split(",", 1)[0] ?? "", "base64").toString("base64")
  }

  setTrailer(name: string, value: string): void {
    this.#trailers = { ...this.#trailers, [name]: value }
  }

  watchCancel(): void {
    if (isGone(this.#stream)) this.#closed()
    else this.#stream.on("close", () => this.#closed())
  }

  write(message: object): void | Promise<void> {
    const bytes = this.#framed(message)
    const stream = this.#stream
    if (isGone(stream)) return undefined
    if (!stream.headersSent) {
      this.#respond()
      stream.on("drain", () => this.#unblock?.())
    }
    if (stream.write(bytes)) return undefined
    return new Promise((resolve) => {
      this.#unblock = resolve
    })
  }

  finish(status: RpcStatus | undefined, response: object | undefined): void {
    const bytes = response === undefined ? undefined : this.#framed(response)
    const stream = this.#stream
    this.#letGo()
    if (isGone(stream)) return
    const isShort = status !== undefined && !stream.headersSent
    if (isShort) respondTrailersOnly(stream, status, this.#trailers)
    else {
      if (status !== undefined) this.#trailers = { ...this.#trailers, ...failureTrailers(status) }
      if (!stream.headersSent) this.#respond()
      stream.end(bytes)
    }
    if (!stream.readableEnded) letLinger(stream, this.#unfinished, isShort)
  }

  /** The stream keeps its listeners, and they the call, until both are collected, which may be long after. */
  #letGo(): void {
    this.raw = undefined
    this.request = undefined
    this.#headers = NO_HEADERS
  }

  #framed(message: object): Buffer {
    return prefixed(this.compiled.encode(message, PREFIX_BYTES))
  }

  #respond(): void {
    this.#stream.on("wantTrailers", () => this.#stream.sendTrailers(this.#trailers))
    this.#stream.respond(HEADERS, WITH_TRAILERS)
  }

  #closed(): void {
    this.#unblock?.()
    if (!this.settled) this.abort(new DomainError("CANCELLED", "the caller cancelled"))
  }
}

function isGone(stream: ServerHttp2Stream): boolean {
  return stream.destroyed || stream.closed
}
