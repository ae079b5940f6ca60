/**
 * The driver without its pool and its repetitions. One stub carries all calls, side by side: the driver lends each of its own to one call at a time,
 * so that calls that are given up keep the others waiting. What a call sends goes straight to the stub, for the driver's
 * interceptor writes every request and every answer out as JSON; and it can be taken back, which the driver does not offer.
 */
import { getMetaInterceptor, MilvusClient } from "@zilliz/milvus2-sdk-node"
import { CallError, storeUnavailable } from "./errors.ts"

type Pool = MilvusClient["channelPool"]
type Stub = Awaited<ReturnType<Pool["acquire"]>>
type Interceptor = ReturnType<typeof getMetaInterceptor>
type Metadata = Parameters<MilvusClient["metadataListener"]>[0]
type Call = ReturnType<ReturnType<Stub["getChannel"]>["createCall"]>

/** A method of a stub. */
type Method = (
  request: unknown,
  options: object,
  done: (error: Error | null, answer: unknown) => void,
) => { cancel(): void }

const OK = 0
const CANCELLED = 1

/** Takes the bytes of a call's answer, or hears how it failed. */
export interface Receiver {
  answer(bytes: Buffer): void
  fail(error: Error): void
}

/** Holds the request of one call that is under way. */
export class Lead {
  #request: { cancel(): void } | undefined
  #ended = false

  /** Whether the call was given up: it sends nothing more. */
  get ended(): boolean {
    return this.#ended
  }

  /** The call's newest request. */
  hold(request: { cancel(): void }): void {
    this.#request = request
  }

  /** Takes the request back; the server hears of it. */
  cancel(): void {
    this.#ended = true
    this.#request?.cancel()
  }
}

/** See the file's comment. */
export class Driver extends MilvusClient {
  #stub: Stub | undefined
  #interceptors: readonly Interceptor[] = []
  #metadata: Metadata | undefined

  /** Connects. */
  async open(): Promise<void> {
    this.connect(MilvusClient.sdkInfo.version)
    await this.connectPromise
    this.#interceptors = [getMetaInterceptor(this.metadataListener.bind(this))]
    this.#stub = await this.channelPool.acquire()
  }

  /** The driver for one call, which `lead` can end. */
  on(lead: Lead): MilvusClient {
    const channelPool = {
      acquire: async () => this.#led(lead),
      release: async () => {},
    }
    const client: MilvusClient = Object.create(this, { channelPool: { value: channelPool } })
    return client
  }

  /** Keeps what every request says about us. */
  protected override metadataListener(metadata: Metadata): Metadata {
    const full = super.metadataListener(metadata)
    this.#metadata = full.clone()
    return full
  }

  /** One call with bytes both ways, which nothing of the driver touches. `deadlineMs` is for the server; answers what cancels it. */
  send(path: string, bytes: Buffer, deadlineMs: number, receiver: Receiver): () => void {
    const [stub, metadata] = [this.#stub, this.#metadata]
    if (stub === undefined || metadata === undefined) throw storeUnavailable()
    const call: Call = stub.getChannel().createCall(path, deadlineMs, null, null, null)
    let answer: Buffer | undefined
    call.start(metadata, {
      onReceiveMetadata: () => {},
      onReceiveMessage: (message: Buffer) => {
        answer = message
      },
      onReceiveStatus: ({ code, details }) => {
        if (code === OK && answer !== undefined) receiver.answer(answer)
        else receiver.fail(new CallError(code, details))
      },
    })
    call.startRead()
    call.sendMessageWithContext({}, bytes)
    call.halfClose()
    return () => call.cancelWithStatus(CANCELLED, "the caller is gone")
  }

  /** Ends the connection. */
  async end(): Promise<void> {
    const stub = this.#stub
    this.#stub = undefined
    if (stub !== undefined) await this.channelPool.release(stub)
    await this.closeConnection()
  }

  #led(lead: Lead): Stub {
    const stub = this.#stub
    if (stub === undefined || lead.ended) throw storeUnavailable()
    // Interceptors of a call take the place of the stub's own.
    const interceptors = this.#interceptors
    return new Proxy(stub, {
      get: (_, name): Method | undefined => {
        const method: unknown = Reflect.get(stub, name)
        if (typeof method !== "function") return undefined
        return (request, options, done) => {
          const sent: { cancel(): void } = method.call(stub, request, { ...options, interceptors }, done)
          lead.hold(sent)
          return sent
        }
      },
    })
  }
}
