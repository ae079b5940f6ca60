import type { ServerHttp2Stream } from "node:http2"
import { type Link, Linked } from "../linked.ts"

/** How often they are looked at: one timer for all, as most requests are complete before one of their own could be armed. */
const TICK_MS = 10
/** How long a caller whose status has left may go on sending, and how long one may take to take its answer meanwhile. */
const LINGER_MS = 500
const LAST_MS = 60_000

/** A stream whose caller has not said everything yet. */
export interface Unfinished extends Link<Unfinished> {
  readonly stream: ServerHttp2Stream
  /** When the patience ends, in milliseconds of Unix time. */
  readonly untilMs: number
  /** Whether it was seen unfinished at a look. */
  seen: boolean
  /** Called once, when the patience has ended; the stream is no longer watched then. */
  onLate(): void
}

/** Watches over streams that wait for their caller. */
export class UnfinishedStreams {
  readonly #waiting = new Linked<Unfinished>()
  #timer: NodeJS.Timeout | undefined

  add(entry: Unfinished): void {
    this.#waiting.add(entry)
    this.#timer ??= setTimeout(() => this.#look(), TICK_MS).unref()
  }

  delete(entry: Unfinished): void {
    this.#waiting.delete(entry)
  }

  #look(): void {
    this.#timer = undefined
    // An answer that leaves a tick early is in time.
    const soon = Date.now() + TICK_MS
    for (const entry of this.#waiting.all()) {
      entry.seen = true
      if (entry.stream.destroyed) this.#waiting.delete(entry)
      else if (entry.untilMs <= soon) {
        this.#waiting.delete(entry)
        entry.onLate()
      }
    }
    if (this.#waiting.size > 0) this.#timer ??= setTimeout(() => this.#look(), TICK_MS).unref()
  }
}

/**
 * What the caller still sends is of no use. Who does not stop once the status has left is told to, so that no stream stays open.
 * `answered`: the status was all there was to send.
 */
export function letLinger(stream: ServerHttp2Stream, unfinished: UnfinishedStreams, answered: boolean): void {
  stream.resume()
  unfinished.add(new Lingering(stream, unfinished, answered))
}

class Lingering implements Unfinished {
  readonly stream: ServerHttp2Stream
  untilMs: number
  newer: Unfinished | undefined = undefined
  older: Unfinished | undefined = undefined
  seen = false
  readonly #unfinished: UnfinishedStreams
  readonly #answered: boolean
  readonly #lastMs: number

  constructor(stream: ServerHttp2Stream, unfinished: UnfinishedStreams, answered: boolean) {
    this.stream = stream
    this.#unfinished = unfinished
    this.#answered = answered
    this.#lastMs = Date.now() + LAST_MS
    this.untilMs = Date.now() + LINGER_MS
  }

  onLate(): void {
    const { stream } = this
    if (this.#answered || stream.sentTrailers !== undefined || this.untilMs > this.#lastMs) stream.close()
    else {
      this.untilMs = Date.now() + LINGER_MS
      this.#unfinished.add(this)
    }
  }
}
