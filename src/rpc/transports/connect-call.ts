import { type Code, ConnectError, type HandlerContext } from "@connectrpc/connect"
import { DomainError } from "../../domain/kernel/errors.ts"
import { Call } from "../call.ts"
import { type CompiledMethod, toMessage } from "../compile.ts"
import { PUSHBACK_TRAILER } from "../grpc-wire.ts"
import type { RpcStatus } from "../status.ts"

/** A call that connect-node has parsed; messages go in and out decoded. */
abstract class ConnectCall extends Call {
  readonly raw: unknown
  readonly incoming: AsyncIterable<unknown> | undefined
  readonly peer: string
  readonly #context: HandlerContext

  constructor(compiled: CompiledMethod, request: unknown, context: HandlerContext, peer: string) {
    const timeoutMs = context.timeoutMs()
    super(compiled, timeoutMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + timeoutMs)
    const streamed = compiled.kind === "client_streaming" || compiled.kind === "bidi_streaming"
    this.raw = streamed ? undefined : request
    this.incoming = streamed ? (request as AsyncIterable<unknown>) : undefined
    this.#context = context
    this.peer = peer
  }

  header(name: string): string | undefined {
    return this.#context.requestHeader.get(name) ?? undefined
  }

  setTrailer(name: string, value: string): void {
    this.#context.responseTrailer.set(name, value)
  }

  watchCancel(): void {
    const { signal } = this.#context
    const cancelled = () => this.abort(new DomainError("CANCELLED", "the caller cancelled"))
    if (signal.aborted) cancelled()
    else signal.addEventListener("abort", cancelled, { once: true })
  }
}

/** A call with one answer. */
export class ConnectSingleAnswerCall extends ConnectCall {
  readonly #resolve: (response: object) => void
  readonly #reject: (reason: ConnectError) => void

  constructor(
    compiled: CompiledMethod,
    request: unknown,
    context: HandlerContext,
    peer: string,
    settle: { resolve: (response: object) => void; reject: (reason: ConnectError) => void },
  ) {
    super(compiled, request, context, peer)
    this.#resolve = settle.resolve
    this.#reject = settle.reject
  }

  write(): void {
    throw new Error(`${this.method} answers with one message`)
  }

  finish(status: RpcStatus | undefined, response: object | undefined): void {
    if (status !== undefined) this.#reject(connectError(status))
    else this.#resolve(toMessage(this.compiled.desc.output, response ?? {}))
  }
}

/** A call with a stream of answers, which connect-node takes one by one. */
export class ConnectStreamAnswerCall extends ConnectCall implements AsyncIterableIterator<object> {
  #offered: { readonly message: object; readonly taken: () => void } | undefined
  #waiting:
    | { resolve: (result: IteratorResult<object>) => void; reject: (reason: unknown) => void }
    | undefined
  #ended = false
  #failure: ConnectError | undefined;

  [Symbol.asyncIterator](): this {
    return this
  }

  write(message: object): void | Promise<void> {
    const complete = toMessage(this.compiled.desc.output, message)
    if (this.#waiting !== undefined) {
      this.#waiting.resolve({ done: false, value: complete })
      this.#waiting = undefined
      return undefined
    }
    return new Promise((taken) => {
      this.#offered = { message: complete, taken }
    })
  }

  finish(status: RpcStatus | undefined): void {
    this.#ended = true
    this.#failure = status === undefined ? undefined : connectError(status)
    // What was offered and not taken is lost with a failure; a success comes only after everything was taken.
    this.#offered?.taken()
    this.#offered = undefined
    if (this.#failure !== undefined) this.#waiting?.reject(this.#failure)
    else this.#waiting?.resolve({ done: true, value: undefined })
    this.#waiting = undefined
  }

  next(): Promise<IteratorResult<object>> {
    const offered = this.#offered
    if (offered !== undefined) {
      this.#offered = undefined
      offered.taken()
      return Promise.resolve({ done: false, value: offered.message })
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  return(): Promise<IteratorResult<object>> {
    this.abort(new DomainError("CANCELLED", "the caller cancelled"))
    return Promise.resolve({ done: true, value: undefined })
  }
}

/** The status as connect-node sends it in each of its protocols. */
export function connectError(status: RpcStatus): ConnectError {
  const headers: Record<string, string> = {}
  if (status.pushbackMs !== undefined) headers[PUSHBACK_TRAILER] = String(status.pushbackMs)
  const details = status.details.map(({ desc, value }) => ({ desc, value }))
  // Connect's codes are gRPC's numbers.
  return new ConnectError(status.message, status.code as Code, headers, details)
}
