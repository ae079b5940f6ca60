/**
 * What a daemon hears of its own messages. A publish answers once the daemon's own subscribers have the message, so that their
 * number is exact; the message may come before or after the server's answer.
 */

/** Longest wait for a message on a connection that is up. */
const WAIT_MS = 1_000

/** See the file's comment. */
export class Echoes {
  readonly #heard = new Map<string, number>()
  readonly #waiting = new Map<string, (here: number | undefined) => void>()
  #publishing = 0

  /** Listens while `work` publishes. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.#publishing++
    try {
      return await work()
    } finally {
      this.#publishing--
      if (this.#publishing === 0) this.#heard.clear()
    }
  }

  /** A message came in and went to so many here. */
  heard(channel: string, sequence: string, here: number): void {
    const id = `${sequence} ${channel}`
    const waiting = this.#waiting.get(id)
    if (waiting !== undefined) waiting(here)
    else if (this.#publishing > 0) this.#heard.set(id, here)
  }

  /** To how many a message went here, or undefined where it did not come. */
  of(channel: string, sequence: string): Promise<number | undefined> {
    const id = `${sequence} ${channel}`
    const known = this.#heard.get(id)
    if (known !== undefined) return Promise.resolve(known)
    return new Promise((resolve) => {
      const timer = setTimeout(() => finish(undefined), WAIT_MS)
      const finish = (here: number | undefined) => {
        clearTimeout(timer)
        this.#waiting.delete(id)
        resolve(here)
      }
      this.#waiting.set(id, finish)
    })
  }

  /** Nothing more will come. */
  giveUp(): void {
    for (const finish of [...this.#waiting.values()]) finish(undefined)
  }
}
