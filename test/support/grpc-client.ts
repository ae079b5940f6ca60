/**
 * A typed gRPC client over grpc-js for tests, the demo and benchmarks: what an agent written in TypeScript would use,
 * without generated stubs beyond the messages.
 */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf"
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js"
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../../src/gen/google/rpc/error_details_pb.ts"
import { StatusSchema } from "../../src/gen/google/rpc/status_pb.ts"

/** Per call: headers, and a deadline in milliseconds from now. */
export interface CallOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Default: 30,000. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

type Call<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (request: MessageInitShape<M["input"]>, options?: CallOptions) => Promise<MessageShape<M["output"]>>
  : M["methodKind"] extends "server_streaming"
    ? (
        request: MessageInitShape<M["input"]>,
        options?: CallOptions,
      ) => AsyncIterable<MessageShape<M["output"]>>
    : M["methodKind"] extends "client_streaming"
      ? (
          requests: AsyncIterable<MessageInitShape<M["input"]>>,
          options?: CallOptions,
        ) => Promise<MessageShape<M["output"]>>
      : (
          requests: AsyncIterable<MessageInitShape<M["input"]>>,
          options?: CallOptions,
        ) => AsyncIterable<MessageShape<M["output"]>>

/** One function per RPC of a service, by local name. */
export type Stub<S extends DescService> = { readonly [K in keyof S["method"]]: Call<S["method"][K]> }

/** A failed call with its details unpacked. */
export class CallError extends Error {
  override readonly name = "CallError"
  /** Canonical gRPC status code. */
  readonly code: number
  /** ErrorInfo.reason; empty where there is none. */
  readonly reason: string
  readonly metadata: Readonly<Record<string, string>>
  /** Paths in BadRequest. */
  readonly fields: readonly string[]
  /** Whether RetryInfo came with it. */
  readonly retryInfo: boolean
  /** Response trailers. */
  readonly trailers: Metadata

  constructor(method: string, cause: ServiceError) {
    super(`${method}: ${cause.code} ${cause.details}`, { cause })
    this.code = cause.code
    this.trailers = cause.metadata ?? new Metadata()
    let reason = ""
    let metadata: Record<string, string> = {}
    const fields: string[] = []
    let retryInfo = false
    const packed = this.trailers.get("grpc-status-details-bin")[0]
    if (packed) {
      for (const detail of fromBinary(StatusSchema, Buffer.from(packed as Buffer)).details) {
        if (detail.typeUrl.endsWith("/google.rpc.ErrorInfo")) {
          const info = fromBinary(ErrorInfoSchema, detail.value)
          reason = info.reason
          metadata = info.metadata
        } else if (detail.typeUrl.endsWith("/google.rpc.BadRequest")) {
          for (const each of fromBinary(BadRequestSchema, detail.value).fieldViolations)
            fields.push(each.field)
        } else if (detail.typeUrl.endsWith("/google.rpc.RetryInfo")) {
          fromBinary(RetryInfoSchema, detail.value)
          retryInfo = true
        }
      }
    }
    this.reason = reason
    this.metadata = metadata
    this.fields = fields
    this.retryInfo = retryInfo
  }
}

/** A channel to one daemon. */
export interface Channel {
  /** The functions of a service. */
  stub<S extends DescService>(service: S): Stub<S>
  /** Any unary method by its descriptor. */
  unary(method: DescMethod, request: unknown, options?: CallOptions): Promise<unknown>
  /** Any server-streaming method by its descriptor. */
  stream(method: DescMethod, request: unknown, options?: CallOptions): AsyncIterable<unknown>
  close(): void
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`
}

function encoder(descriptor: DescMessage): (message: unknown) => Buffer {
  return (message) => {
    const bytes = toBinary(descriptor, create(descriptor, message as never) as never)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
}

function decoder(descriptor: DescMessage): (bytes: Buffer) => unknown {
  return (bytes) => fromBinary(descriptor, bytes)
}

function metadataOf(base: Readonly<Record<string, string>>, options: CallOptions): Metadata {
  const metadata = new Metadata()
  for (const [name, value] of Object.entries({ ...base, ...options.headers })) metadata.set(name, value)
  return metadata
}

/**
 * Opens a channel.
 * @param address `host:port` or `unix:PATH`.
 * @param headers sent with every call, e.g. a credential.
 */
export function connect(address: string, headers: Readonly<Record<string, string>> = {}): Channel {
  const client = new Client(address, credentials.createInsecure(), {
    "grpc.max_receive_message_length": 64 * 1024 * 1024,
    "grpc.enable_channelz": 0,
    "grpc.use_local_subchannel_pool": 1,
  })
  const settings = (options: CallOptions) => ({ deadline: Date.now() + (options.timeoutMs ?? 30_000) })

  function cancelOn(signal: AbortSignal | undefined, call: { cancel(): void }): void {
    if (signal?.aborted) call.cancel()
    else signal?.addEventListener("abort", () => call.cancel(), { once: true })
  }

  function unary(method: DescMethod, request: unknown, options: CallOptions = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        pathOf(method),
        encoder(method.input),
        decoder(method.output),
        request,
        metadataOf(headers, options),
        settings(options),
        (error, value) => (error ? reject(new CallError(method.name, error)) : resolve(value)),
      )
      cancelOn(options.signal, call)
    })
  }

  async function* frames(method: DescMethod, call: AsyncIterable<unknown> & { cancel(): void }) {
    let ended = false
    try {
      for await (const frame of call) yield frame
      ended = true
    } catch (error) {
      ended = true
      throw typeof (error as ServiceError).code === "number"
        ? new CallError(method.name, error as ServiceError)
        : error
    } finally {
      if (!ended) call.cancel()
    }
  }

  function stream(method: DescMethod, request: unknown, options: CallOptions = {}): AsyncIterable<unknown> {
    const call = client.makeServerStreamRequest(
      pathOf(method),
      encoder(method.input),
      decoder(method.output),
      request,
      metadataOf(headers, options),
      settings(options),
    )
    // Leaving the loop cancels the call; grpc-js then emits an error that nobody waits for any more.
    call.on("error", () => undefined)
    cancelOn(options.signal, call)
    return frames(method, call)
  }

  async function pump(
    requests: AsyncIterable<unknown>,
    call: {
      write(message: unknown): boolean
      end(): void
      once(event: "drain", listener: () => void): unknown
      cancel(): void
    },
  ): Promise<void> {
    try {
      for await (const request of requests) {
        if (!call.write(request)) await new Promise<void>((resolve) => call.once("drain", resolve))
      }
      call.end()
    } catch {
      call.cancel()
    }
  }

  function clientStream(method: DescMethod, requests: AsyncIterable<unknown>, options: CallOptions = {}) {
    return new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(
        pathOf(method),
        encoder(method.input),
        decoder(method.output),
        metadataOf(headers, options),
        settings(options),
        (error: ServiceError | null, value?: unknown) =>
          error ? reject(new CallError(method.name, error)) : resolve(value),
      )
      cancelOn(options.signal, call)
      void pump(requests, call)
    })
  }

  function bidi(method: DescMethod, requests: AsyncIterable<unknown>, options: CallOptions = {}) {
    const call = client.makeBidiStreamRequest(
      pathOf(method),
      encoder(method.input),
      decoder(method.output),
      metadataOf(headers, options),
      settings(options),
    )
    call.on("error", () => undefined)
    cancelOn(options.signal, call)
    void pump(requests, call)
    return frames(method, call)
  }

  return {
    unary,
    stream,
    stub<S extends DescService>(service: S): Stub<S> {
      const functions: Record<string, unknown> = {}
      for (const method of service.methods) {
        const by = { unary, server_streaming: stream, client_streaming: clientStream, bidi_streaming: bidi }
        const invoke = by[method.methodKind] as (
          method: DescMethod,
          input: never,
          options?: CallOptions,
        ) => unknown
        functions[method.localName] = (input: never, options?: CallOptions) => invoke(method, input, options)
      }
      return functions as Stub<S>
    },
    close: () => client.close(),
  }
}
