import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2"
import { DomainError } from "../../domain/kernel/errors.ts"
import { Call } from "../call.ts"
import type { CompiledMethod } from "../compile.ts"
import { failureTrailers, respondTrailersOnly } from "../grpc-wire.ts"
import type { RpcStatus } from "../status.ts"
import { frame } from "./grpc-frames.ts"

const HEADERS: OutgoingHttpHeaders = { ":status": 200, "content-type": "application/grpc+proto" }

/** A call on a bare HTTP/2 stream. */
export class Http2Call extends Call {
  readonly raw: unknown
  readonly incoming: AsyncIterable<unknown> | undefined
  readonly #stream: ServerHttp2Stream
  readonly #headers: IncomingHttpHeaders
  #trailers: Record<string, string | number> = { "grpc-status": 0 }

  constructor(
    compiled: CompiledMethod,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    deadlineMs: number,
    request: { readonly raw?: Buffer; readonly incoming?: AsyncIterable<Buffer> },
  ) {
    super(compiled, deadlineMs)
    this.#stream = stream
    this.#headers = headers
    this.raw = request.raw
    this.incoming = request.incoming
  }

  get peer(): string {
    return this.#stream.session?.socket.remoteAddress ?? "unix"
  }

  header(name: string): string | undefined {
    const value = this.#headers[name]
    return Array.isArray(value) ? value[0] : value
  }

  setTrailer(name: string, value: string): void {
    this.#trailers[name] = value
  }

  watchCancel(): void {
    const cancelled = () => this.abort(new DomainError("CANCELLED", "the caller cancelled"))
    if (this.#stream.destroyed) cancelled()
    else this.#stream.once("close", cancelled)
  }

  write(message: object): void | Promise<void> {
    const bytes = frame(this.compiled.encode(message))
    if (this.#stream.destroyed) return undefined
    this.#respond()
    if (this.#stream.write(bytes)) return undefined
    return new Promise((resolve) => {
      this.#stream.once("drain", resolve)
      this.#stream.once("close", resolve)
    })
  }

  finish(status: RpcStatus | undefined, response: object | undefined): void {
    const bytes = response === undefined ? undefined : frame(this.compiled.encode(response))
    if (this.#stream.destroyed) return
    if (status !== undefined) {
      this.#trailers = { ...this.#trailers, ...failureTrailers(status) }
      if (!this.#stream.headersSent) {
        respondTrailersOnly(this.#stream, status)
        // What the caller still sends is of no use, and must not hold the stream open.
        this.#stream.resume()
        return
      }
    }
    this.#respond()
    this.#stream.end(bytes)
    this.#stream.resume()
  }

  #respond(): void {
    if (this.#stream.headersSent) return
    this.#stream.once("wantTrailers", () => this.#stream.sendTrailers(this.#trailers))
    this.#stream.respond(HEADERS, { waitForTrailers: true })
  }
}
