/** A PGlite in a thread of its own, looking to pg's Client like a socket to a server. One stream, one thread, one database. */
import { extname } from "node:path"
import { Duplex } from "node:stream"
import { Worker } from "node:worker_threads"
import type { FromWorker, PgliteWorkerOptions, ToWorker } from "./pglite-protocol.ts"

/** First byte of PostgreSQL's Terminate message. */
const TERMINATE = "X".charCodeAt(0)

/** The thread runs the same way as this file: from source, or from the build. */
const WORKER_FILE = new URL(`./pglite-worker${extname(import.meta.url)}`, import.meta.url)

type Callback = (error?: Error | null) => void

/** The stream. `connect` starts the thread; Terminate closes the database in order; `destroy` kills the thread. */
export class PgliteStream extends Duplex {
  readonly #options: PgliteWorkerOptions
  #worker: Worker | undefined
  #closing = false
  #onDump: ((tar: Uint8Array<ArrayBuffer>) => void) | undefined

  constructor(options: PgliteWorkerOptions) {
    super({ allowHalfOpen: false, highWaterMark: 1024 * 1024 })
    this.#options = options
  }

  /** Called by pg instead of net.Socket.connect. Emits `connect` when the database is open. */
  connect(): this {
    const worker = new Worker(WORKER_FILE, { workerData: this.#options, stdout: true, stderr: true })
    // PostgreSQL's own log lines; nobody reads them, and unread they would pile up.
    worker.stdout.resume()
    worker.stderr.resume()
    worker.on("message", (message: FromWorker) => this.#receive(message))
    worker.once("error", (cause) =>
      this.destroy(new Error("the database thread failed: connection lost", { cause })),
    )
    worker.once("exit", (code) => {
      this.#worker = undefined
      if (this.#closing) this.destroy()
      else
        this.destroy(new Error(`the database thread ended unexpectedly with code ${code}: connection lost`))
    })
    this.#worker = worker
    return this
  }

  /** The whole database as a tar, between two round trips. For {@link PgliteWorkerOptions.template}. */
  dump(): Promise<Uint8Array<ArrayBuffer>> {
    return new Promise((resolve) => {
      this.#onDump = resolve
      this.#post("dump")
    })
  }

  /** What pg calls on a socket and means nothing here. */
  setNoDelay(): this {
    return this
  }

  /** See {@link setNoDelay}. */
  setKeepAlive(): this {
    return this
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#send(chunk)
    callback()
  }

  override _writev(chunks: { chunk: Buffer }[], callback: Callback): void {
    const only = chunks[0]
    this.#send(
      chunks.length === 1 && only !== undefined ? only.chunk : Buffer.concat(chunks.map((c) => c.chunk)),
    )
    callback()
  }

  /** The stream's end waits for the thread's: only then is the database closed. */
  override _final(callback: Callback): void {
    this.#close()
    callback()
  }

  override _destroy(error: Error | null, callback: Callback): void {
    const worker = this.#worker
    this.#closing = true
    const gone = worker === undefined ? Promise.resolve() : worker.terminate()
    gone.then(
      () => callback(error),
      (failure: Error) => callback(error ?? failure),
    )
  }

  #send(bytes: Buffer): void {
    if (bytes[0] === TERMINATE) {
      this.#close()
      return
    }
    // A copy: small Buffers share their memory with others, and what is transferred is gone here.
    const own = new Uint8Array(bytes)
    this.#post(own, [own.buffer])
  }

  #close(): void {
    if (this.#closing) return
    this.#closing = true
    this.#post("close")
  }

  #post(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker?.postMessage(message, [...transfer])
  }

  #receive(message: FromWorker): void {
    if (message === "ready") this.emit("connect")
    else if (message instanceof Uint8Array) this.push(Buffer.from(message.buffer))
    else this.#onDump?.(message.dump)
  }
}
