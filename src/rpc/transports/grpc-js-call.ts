import { Buffer } from "node:buffer"
import type { EventEmitter } from "node:events"
import type { Readable } from "node:stream"
import {
  type Deadline,
  Metadata,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from "@grpc/grpc-js"
import { DomainError } from "../../domain/kernel/errors.ts"
import { Call } from "../call.ts"
import type { CompiledMethod } from "../compile.ts"
import { DETAILS_TRAILER, PUSHBACK_TRAILER } from "../grpc-wire.ts"
import { type RpcStatus, statusDetailsBin } from "../status.ts"

/** Above this, one message at a time: a stream's own buffer counts messages, not bytes. */
const LARGE_BYTES = 16 * 1024

/** How much later than the caller's deadline grpc-js gives up by itself; our own answer, with its details, comes first. */
export const DEADLINE_SLACK_MS = 40

/** The part that all four kinds of grpc-js calls share. */
type Surface =
  | ServerUnaryCall<Buffer, Buffer>
  | ServerWritableStream<Buffer, Buffer>
  | ServerReadableStream<Buffer, Buffer>
  | ServerDuplexStream<Buffer, Buffer>

abstract class GrpcJsCall<S extends Surface> extends Call {
  readonly surface: S
  protected trailers: Metadata | undefined

  constructor(compiled: CompiledMethod, surface: S) {
    super(compiled, milliseconds(surface.getDeadline()) - DEADLINE_SLACK_MS)
    this.surface = surface
  }

  get raw(): unknown {
    return "request" in this.surface ? this.surface.request : undefined
  }

  get incoming(): AsyncIterable<unknown> | undefined {
    if (!("read" in this.surface)) return undefined
    // Ending the requests early must not tear down the answers of the same stream.
    return (this.surface as unknown as Readable).iterator({ destroyOnReturn: false })
  }

  get peer(): string {
    const peer = this.surface.getPeer()
    return peer === "unknown" ? "unix" : peer
  }

  header(name: string): string | undefined {
    const value = this.surface.metadata.get(name)[0]
    return value === undefined || typeof value === "string" ? value : value.toString("base64")
  }

  setTrailer(name: string, value: string): void {
    this.trailers ??= new Metadata()
    this.trailers.set(name, value)
  }

  watchCancel(): void {
    // grpc-js says so of calls that were answered, too; an error with its stack is not made for those.
    const cancelled = () => {
      if (!this.settled) this.abort(new DomainError("CANCELLED", "the caller cancelled"))
    }
    if (this.surface.cancelled) cancelled()
    // The four kinds are all emitters; their overloads do not unite.
    else (this.surface as EventEmitter).once("cancelled", cancelled)
  }

  protected failure(status: RpcStatus): { code: number; details: string; metadata: Metadata } {
    const metadata = this.trailers ?? new Metadata()
    metadata.set(DETAILS_TRAILER, Buffer.from(statusDetailsBin(status)))
    if (status.pushbackMs !== undefined) metadata.set(PUSHBACK_TRAILER, String(status.pushbackMs))
    return { code: status.code, details: status.message, metadata }
  }

  protected encoded(message: object): Buffer {
    const bytes = this.compiled.encode(message)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

/** The grpc-js side of a call with one answer. */
export type SingleAnswerSurface = ServerUnaryCall<Buffer, Buffer> | ServerReadableStream<Buffer, Buffer>

/** The grpc-js side of a call with a stream of answers. */
export type StreamAnswerSurface = ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>

/** A call with one answer. */
export class SingleAnswerCall extends GrpcJsCall<SingleAnswerSurface> {
  readonly #callback: sendUnaryData<Buffer>

  constructor(compiled: CompiledMethod, surface: SingleAnswerSurface, callback: sendUnaryData<Buffer>) {
    super(compiled, surface)
    this.#callback = callback
  }

  write(): void {
    throw new Error(`${this.method} answers with one message`)
  }

  finish(status: RpcStatus | undefined, response: object | undefined): void {
    if (status !== undefined) this.#callback(this.failure(status), null)
    else this.#callback(null, this.encoded(response ?? {}), this.trailers)
  }
}

/** A call with a stream of answers. */
export class StreamAnswerCall extends GrpcJsCall<StreamAnswerSurface> {
  #unblock: (() => void) | undefined

  constructor(compiled: CompiledMethod, surface: StreamAnswerSurface) {
    super(compiled, surface)
    // The kinds' overloads do not unite.
    const emitter: EventEmitter = surface
    const unblock = () => this.#unblock?.()
    emitter.on("drain", unblock).on("close", unblock)
  }

  write(message: object): void | Promise<void> {
    const bytes = this.encoded(message)
    const { surface } = this
    if (bytes.byteLength >= LARGE_BYTES) {
      return new Promise((resolve) => surface.write(bytes, () => resolve()))
    }
    if (surface.write(bytes)) return undefined
    return new Promise((resolve) => {
      this.#unblock = resolve
    })
  }

  finish(status: RpcStatus | undefined): void {
    if (status !== undefined) this.surface.emit("error", this.failure(status))
    else this.surface.end(this.trailers)
  }
}

function milliseconds(deadline: Deadline): number {
  return typeof deadline === "number" ? deadline : deadline.getTime()
}
