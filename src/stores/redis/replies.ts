/** Reads what the server answers, in the second version of its protocol: pieces of any size go in, whole answers come out in their order. */
import type { Answer } from "./answers.ts"

/** What the server said instead of an answer. */
export class ReplyError extends Error {
  override readonly name = "ReplyError"
}

/** A list that is not whole yet. */
interface Open {
  readonly list: Answer[]
  readonly length: number
  readonly outer: Open | undefined
}

const [TEXT, FAILURE, NUMBER, BYTES, LIST] = [0x2b, 0x2d, 0x3a, 0x24, 0x2a]
const [MINUS, ZERO, CR, LF] = [0x2d, 0x30, 0x0d, 0x0a]

/** See the file's comment. Texts are views of the pieces that came in. */
export class Replies {
  readonly #tell: (answer: Answer | ReplyError) => void
  #open: Open | undefined
  /** Of a list; the whole answer is a failure then. */
  #failure: ReplyError | undefined
  /** What is not whole yet, how much it is, and how much it will be; undefined: up to the end of its line. */
  #parts: Buffer[] = []
  #held = 0
  #needed: number | undefined

  constructor(tell: (answer: Answer | ReplyError) => void) {
    this.#tell = tell
  }

  /** Takes a piece. Raises TypeError for what is not the protocol. */
  read(piece: Buffer): void {
    let from = piece
    // Only what was cut is put together; the rest is read where it is.
    while (this.#held > 0) {
      const missing = this.#needed === undefined ? from.indexOf(LF) + 1 : this.#needed - this.#held
      const isEnough = missing > 0 && missing <= from.length
      const part = isEnough ? from.subarray(0, missing) : from
      this.#parts.push(part)
      this.#held += part.length
      if (!isEnough) return
      const joined = Buffer.concat(this.#parts, this.#held)
      from = from.subarray(missing)
      this.#parts = []
      this.#held = 0
      this.#hold(joined, this.#readAll(joined))
    }
    this.#hold(from, this.#readAll(from))
  }

  #hold(from: Buffer, at: number): void {
    if (at === from.length) return
    this.#parts.push(from.subarray(at))
    this.#held = from.length - at
  }

  /** Where the first begins that is not whole. */
  #readAll(from: Buffer): number {
    const end = from.length
    let at = 0
    while (at < end) {
      const begun = at
      const type = from[at++]
      if (type === TEXT || type === FAILURE) {
        const line = from.indexOf(CR, at)
        if (line < 0 || line + 1 >= end) return this.#wait(begun, undefined)
        const text = from.subarray(at, line)
        this.#put(type === TEXT ? text : new ReplyError(text.toString()))
        at = line + 2
        continue
      }
      let value = 0
      let sign = 1
      while (at < end && from[at] !== CR) {
        const digit = from[at++] as number
        if (digit === MINUS) sign = -1
        else value = value * 10 + digit - ZERO
      }
      at += 2
      if (at > end) return this.#wait(begun, undefined)
      value *= sign
      if (type === BYTES) {
        if (value < 0) this.#put(null)
        else {
          if (at + value + 2 > end) return this.#wait(begun, at + value + 2)
          this.#put(from.subarray(at, at + value))
          at += value + 2
        }
      } else if (type === LIST) {
        if (value > 0) this.#open = { list: [], length: value, outer: this.#open }
        else this.#put(value < 0 ? null : [])
      } else if (type === NUMBER) this.#put(value)
      else throw new TypeError("the server does not speak the protocol")
    }
    return at
  }

  #wait(begun: number, end: number | undefined): number {
    this.#needed = end === undefined ? undefined : end - begun
    return begun
  }

  #put(value: Answer | ReplyError): void {
    let whole = value
    let open = this.#open
    while (open !== undefined) {
      if (whole instanceof ReplyError) {
        this.#failure ??= whole
        open.list.push(null)
      } else open.list.push(whole)
      if (open.list.length < open.length) return
      whole = open.list
      open = open.outer
      this.#open = open
    }
    const failure = this.#failure
    this.#failure = undefined
    this.#tell(failure ?? whole)
  }
}
