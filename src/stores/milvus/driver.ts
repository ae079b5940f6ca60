/**
 * The driver without its pool and its repetitions. One stub carries all calls, side by side: the driver lends each of its own to one call at a time,
 * so that calls that are given up keep the others waiting. What a call sends goes straight to the stub, for the driver's
 * interceptor writes every request and every answer out as JSON; and it can be taken back, which the driver does not offer.
 */
import { getMetaInterceptor, MilvusClient } from "@zilliz/milvus2-sdk-node"
import { storeUnavailable } from "./errors.ts"

type Pool = MilvusClient["channelPool"]
type Stub = Awaited<ReturnType<Pool["acquire"]>>
type Interceptor = ReturnType<typeof getMetaInterceptor>

/** A method of a stub. */
type Method = (
  request: unknown,
  options: object,
  done: (error: Error | null, answer: unknown) => void,
) => { cancel(): void }

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
