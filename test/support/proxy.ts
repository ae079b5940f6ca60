/**
 * A TCP proxy inside the test's process that plays a bad network: it refuses, cuts, delays, lets nothing through, or loses exactly the
 * answer to a request that a test names. It never loses bytes in the middle of a connection, since TCP does not either.
 */
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"

/** What becomes of the answer to a request whose bytes contain a mark. */
export interface AnswerLoss {
  readonly mark: string
  /** `reset`: the connection is reset when the answer is there. `silence`: nothing comes back over this connection any more. */
  readonly how: "reset" | "silence"
  /** How many requests suffer. */
  times: number
}

interface Link {
  readonly client: Socket
  readonly server: Socket
  /** The answer that must not arrive. */
  lost: AnswerLoss["how"] | undefined
}

/** How long after the answer to be lost, or one before it on the same connection, the connection is reset. */
const AFTER_ANSWER_MS = 25

/** A port in front of another one. */
export class TcpProxy {
  readonly port: number
  readonly #listener: Server
  readonly #links = new Set<Link>()
  #target: number
  #delayMs = 0
  #held = false
  #loss: AnswerLoss | undefined
  #hits = 0

  private constructor(listener: Server, port: number, target: number) {
    this.#listener = listener
    this.port = port
    this.#target = target
    listener.on("connection", (client) => this.#accept(client))
  }

  /** A proxy for `target` on a free port of loopback. */
  static async to(target: number): Promise<TcpProxy> {
    const listener = createServer().listen(0, "127.0.0.1")
    await once(listener, "listening")
    const address = listener.address()
    if (address === null || typeof address === "string") throw new Error("the proxy has no port")
    return new TcpProxy(listener, address.port, target)
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#links.size
  }

  /** Answers that were lost so far. */
  get losses(): number {
    return this.#hits
  }

  /** Nobody listens any more, and open connections are reset. */
  async refuse(): Promise<void> {
    this.#listener.close()
    this.cut()
    if (this.#listener.listening) await once(this.#listener, "close")
  }

  /** Listens again after {@link refuse}. */
  async accept(): Promise<void> {
    this.#listener.listen(this.port, "127.0.0.1")
    await once(this.#listener, "listening")
  }

  /** Resets every connection. */
  cut(): void {
    for (const link of this.#links) drop(link)
  }

  /** Connections are taken, but nothing passes in either direction until {@link release}, when all of it arrives late. */
  hold(): void {
    this.#held = true
    for (const { client, server } of this.#links) {
      client.pause()
      server.pause()
    }
  }

  /** Ends {@link hold}. */
  release(): void {
    this.#held = false
    for (const { client, server } of this.#links) {
      client.resume()
      server.resume()
    }
  }

  /** From now on everything takes so much longer, in each direction. */
  delay(ms: number): void {
    this.#delayMs = ms
  }

  /** Loses answers; see {@link AnswerLoss}. */
  lose(mark: string, how: AnswerLoss["how"], times = 1): void {
    this.#loss = { mark, how, times }
  }

  /** Loses no more answers; connections that lost one are reset. */
  loseNone(): void {
    this.#loss = undefined
    for (const link of this.#links) if (link.lost !== undefined) drop(link)
  }

  /** Open connections lead to `target` no more: they are reset, and new ones go there. */
  switchTo(target: number): void {
    this.#target = target
    this.cut()
  }

  /** Ends everything. */
  async close(): Promise<void> {
    this.cut()
    if (!this.#listener.listening) return
    this.#listener.close()
    await once(this.#listener, "close")
  }

  #accept(client: Socket): void {
    const server = connect({ host: "127.0.0.1", port: this.#target, noDelay: true })
    client.setNoDelay(true)
    const link: Link = { client, server, lost: undefined }
    this.#links.add(link)
    const end = () => {
      this.#links.delete(link)
      drop(link)
    }
    for (const socket of [client, server]) {
      // What is broken here is what the test asked for; both ends see it.
      socket.on("error", end)
      socket.on("close", end)
    }
    this.#pipe(client, server, (bytes) => this.#request(link, bytes))
    this.#pipe(server, client, () => this.#answer(link))
    if (this.#held) {
      client.pause()
      server.pause()
    }
  }

  /** `passes` says whether bytes go on. */
  #pipe(from: Socket, to: Socket, passes: (bytes: Buffer) => boolean): void {
    let last = Promise.resolve()
    const soon = (work: () => void) => {
      const due = Date.now() + this.#delayMs
      last = last.then(async () => {
        const left = due - Date.now()
        if (left > 0) await new Promise((resolve) => setTimeout(resolve, left))
        work()
      })
    }
    from.on("data", (bytes: Buffer) => {
      if (!passes(bytes)) return
      soon(() => {
        if (to.writable && !to.write(bytes)) {
          from.pause()
          to.once("drain", () => {
            if (!this.#held) from.resume()
          })
        }
      })
    })
    from.on("end", () => soon(() => to.end()))
  }

  #request(link: Link, bytes: Buffer): boolean {
    const loss = this.#loss
    if (loss !== undefined && loss.times > 0 && link.lost === undefined && bytes.includes(loss.mark)) {
      loss.times -= 1
      link.lost = loss.how
      this.#hits += 1
    }
    return true
  }

  #answer(link: Link): boolean {
    if (link.lost === undefined) return true
    // Not at once: answers to earlier requests may be the first to come.
    if (link.lost === "reset") setTimeout(() => drop(link), AFTER_ANSWER_MS)
    return false
  }
}

/** Resets both ends: neither gets an orderly end. */
function drop({ client, server }: Link): void {
  for (const socket of [client, server]) {
    if (socket.destroyed) continue
    // A connection that is being made, or was ended in this direction, cannot be reset, and bytes that the other end does not take must not
    // be waited for.
    if (socket.connecting || socket.writableEnded || socket.writableLength > 0) socket.destroy()
    else socket.resetAndDestroy()
  }
}
