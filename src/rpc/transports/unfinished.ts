import type { ServerHttp2Stream } from "node:http2"

/** How often they are looked at: one timer for all, as most requests are complete before one of their own could be armed. */
const TICK_MS = 10

/** A stream whose caller has not said everything yet. */
export interface Unfinished {
  readonly stream: ServerHttp2Stream
  /** When the patience ends, in milliseconds of Unix time. */
  readonly untilMs: number
  /** Called once, when it has ended; the stream is no longer watched then. */
  readonly onLate: () => void
}

/** Watches over streams that wait for their caller. */
export class UnfinishedStreams {
  readonly #waiting = new Set<Unfinished>()
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
    for (const entry of this.#waiting) {
      if (entry.stream.destroyed) this.#waiting.delete(entry)
      else if (entry.untilMs <= soon) {
        this.#waiting.delete(entry)
        entry.onLate()
      }
    }
    if (this.#waiting.size > 0) this.#timer ??= setTimeout(() => this.#look(), TICK_MS).unref()
  }
}
