/** gRPC's length-prefixed messages. */
import { DomainError } from "../../domain/kernel/errors.ts"

const EMPTY = Buffer.alloc(0)

/** A message as it stands on the wire. */
export interface Framed {
  readonly compressed: boolean
  readonly bytes: Buffer
}

/** What stands before a message: whether it is compressed, and its length. */
export const PREFIX_BYTES = 5

/** Fills in the prefix of a message that is not compressed and that was written after room for it. */
export function prefixed(bytes: Uint8Array): Buffer {
  const framed = Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  framed[0] = 0
  framed.writeUInt32BE(bytes.byteLength - PREFIX_BYTES, 1)
  return framed
}

/** LIMIT_EXCEEDED for a message of `size` bytes; `more` where it has more than that. */
export function tooLarge(size: number, maximum: number, more = false): DomainError {
  return new DomainError(
    "LIMIT_EXCEEDED",
    `the message has ${more ? "more than " : ""}${size} bytes, at most ${maximum} allowed`,
    { metadata: { limit: "message bytes", value: String(size), maximum: String(maximum) } },
  )
}

/** Cuts a byte stream into messages. What it holds is at most twice what has come of the message that is not complete. */
export class FrameReader {
  readonly #maxBytes: number
  /** Bytes that have come, from #from to #end; more room behind them once a message came in pieces. */
  #held: Buffer = EMPTY
  #from = 0
  #end = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Whether bytes of an unfinished message are held. */
  get partial(): boolean {
    return this.#end > this.#from
  }

  /** Takes a chunk, which must not change any more. */
  push(chunk: Buffer): void {
    if (this.#from === this.#end) {
      this.#held = chunk
      this.#from = 0
      this.#end = chunk.byteLength
      return
    }
    const needed = this.#end - this.#from + chunk.byteLength
    if (this.#held.byteLength - this.#end < chunk.byteLength) {
      const roomy = Buffer.allocUnsafeSlow(needed * 2)
      this.#held.copy(roomy, 0, this.#from, this.#end)
      this.#end -= this.#from
      this.#from = 0
      this.#held = roomy
    }
    chunk.copy(this.#held, this.#end)
    this.#end += chunk.byteLength
  }

  /** The next message that is complete. Throws DomainError on one over the limit, and on what is not a message. */
  next(): Framed | undefined {
    const start = this.#from + PREFIX_BYTES
    if (this.#end < start) return undefined
    const flag = this.#held[this.#from] ?? 0
    if (flag > 1) throw new DomainError("MALFORMED_MESSAGE", "the request is not framed as gRPC frames it")
    const size = this.#held.readUInt32BE(this.#from + 1)
    if (size > this.#maxBytes) throw tooLarge(size, this.#maxBytes)
    if (this.#end < start + size) return undefined
    this.#from = start + size
    return { compressed: flag === 1, bytes: this.#held.subarray(start, this.#from) }
  }
}
