/** The request messages of a call, out of its HTTP/2 stream. */
import type { ServerHttp2Stream } from "node:http2"
import { DomainError } from "../../domain/kernel/errors.ts"
import { malformed, type Unpacker, unannounced } from "./grpc-encodings.ts"
import { type Framed, FrameReader } from "./grpc-frames.ts"
import type { Unfinished, UnfinishedStreams } from "./unfinished.ts"

/** How long the one request message of a call may take to arrive. */
const REQUEST_MS = 60_000

/** How the messages of one call are read. */
export interface Reading {
  readonly stream: ServerHttp2Stream
  readonly maxBytes: number
  /** Undefined where the call announced no compression. */
  readonly unpacker: Unpacker | undefined
  readonly deadlineMs: number
  /** When the call came. */
  readonly arrivedMs: number
  readonly unfinished: UnfinishedStreams
}

/** Where the one message goes. */
export interface OneRequest {
  /** At most once, with the time; not at all for a stream that ended before. */
  onMessage(bytes: Buffer, nowMs: number): void
  /** At most once, instead. */
  onFailure(failure: unknown): void
}

/** Reads the message of a call that takes one, and the end of the requests after it. */
export function readOne(reading: Reading, to: OneRequest): void {
  new OneReader(reading, to)
}

interface Work {
  readonly reading: Reading
  readonly frames: FrameReader
  readonly to: OneRequest
}

/** A stream is garbage long before it is collected; until then it keeps its listeners, which must not keep the request, too. */
class OneReader implements Unfinished {
  readonly stream: ServerHttp2Stream
  readonly untilMs: number
  newer: Unfinished | undefined = undefined
  older: Unfinished | undefined = undefined
  seen = false
  readonly #unfinished: UnfinishedStreams
  /** Undefined when there is nothing to read any more. */
  #work: Work | undefined
  #message: Framed | undefined

  constructor(reading: Reading, to: OneRequest) {
    const { stream, maxBytes, deadlineMs, arrivedMs, unfinished } = reading
    this.stream = stream
    this.untilMs = Math.min(deadlineMs, arrivedMs + REQUEST_MS)
    this.#unfinished = unfinished
    this.#work = { reading, frames: new FrameReader(maxBytes), to }
    unfinished.add(this)
    stream.on("data", (chunk: Buffer) => this.#take(chunk))
    stream.on("end", () => this.#end())
  }

  onLate(): void {
    const late =
      this.untilMs === this.#work?.reading.deadlineMs
        ? "the deadline passed before the request had arrived"
        : `the request did not arrive within ${REQUEST_MS / 1000} s`
    this.#fail(new DomainError("DEADLINE_EXCEEDED", late))
  }

  #take(chunk: Buffer): void {
    if (this.#work === undefined) return
    const { frames } = this.#work
    try {
      frames.push(chunk)
      const message = frames.next()
      if (message === undefined) return
      if (this.#message !== undefined || frames.partial) throw notOne()
      this.#message = message
    } catch (failure) {
      this.#fail(failure)
    }
  }

  #end(): void {
    const message = this.#message
    const work = this.#stop()
    if (work === undefined || this.stream.destroyed) return
    const { reading, frames, to } = work
    if (message === undefined || frames.partial) to.onFailure(notOne())
    // A look at the clock costs more than it seems; most requests are there at once.
    else if (!message.compressed) to.onMessage(message.bytes, this.seen ? Date.now() : reading.arrivedMs)
    else {
      unpack(message, reading).then(
        (bytes) => to.onMessage(bytes, Date.now()),
        (failure: unknown) => to.onFailure(failure),
      )
    }
  }

  #fail(failure: unknown): void {
    this.#stop()?.to.onFailure(failure)
  }

  #stop(): Work | undefined {
    const work = this.#work
    this.#work = undefined
    this.#message = undefined
    this.#unfinished.delete(this)
    return work
  }
}

function notOne(): DomainError {
  return malformed("exactly one request message is expected")
}

async function unpack({ bytes }: Framed, { unpacker, maxBytes }: Reading): Promise<Buffer> {
  if (unpacker === undefined) throw unannounced()
  return await unpacker(bytes, maxBytes)
}

/** The messages of a call that takes a stream, read as they are asked for. Ending early does not end the answers. */
export async function* readMany(
  reading: Pick<Reading, "stream" | "maxBytes" | "unpacker">,
): AsyncGenerator<Buffer> {
  const { stream, maxBytes, unpacker } = reading
  const frames = new FrameReader(maxBytes)
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    frames.push(chunk)
    for (let message = frames.next(); message !== undefined; message = frames.next()) {
      if (!message.compressed) yield message.bytes
      else if (unpacker === undefined) throw unannounced()
      else yield await unpacker(message.bytes, maxBytes)
    }
  }
  if (frames.partial) throw malformed("the last request message is cut off")
}
