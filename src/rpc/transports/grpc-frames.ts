/** gRPC's length-prefixed messages. */
import { DomainError } from "../../domain/kernel/errors.ts"

const PREFIX_BYTES = 5

/** A message with its prefix: not compressed, then the length. */
export function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.byteLength)
  bytes[0] = 0
  bytes.writeUInt32BE(message.byteLength, 1)
  bytes.set(message, PREFIX_BYTES)
  return bytes
}

/** Cuts a byte stream into messages. Throws DomainError on a message over the limit or a compressed one. */
export class FrameReader {
  readonly #maxBytes: number
  #chunks: Buffer[] = []
  #length = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** Whether bytes of an unfinished message are held. */
  get partial(): boolean {
    return this.#length > 0
  }

  /** Takes a chunk and gives the messages it completes. */
  push(chunk: Buffer): Buffer[] {
    this.#chunks.push(chunk)
    this.#length += chunk.byteLength
    const messages: Buffer[] = []
    for (;;) {
      const message = this.#take()
      if (message === undefined) return messages
      messages.push(message)
    }
  }

  #take(): Buffer | undefined {
    if (this.#length < PREFIX_BYTES) return undefined
    const head = this.#joined(PREFIX_BYTES)
    const size = head.readUInt32BE(1)
    if (head[0] !== 0) throw new DomainError("UNIMPLEMENTED", "compressed messages are not supported")
    if (size > this.#maxBytes) {
      throw new DomainError(
        "LIMIT_EXCEEDED",
        `the message has ${size} bytes, at most ${this.#maxBytes} allowed`,
        {
          metadata: { limit: "message bytes", value: String(size), maximum: String(this.#maxBytes) },
        },
      )
    }
    const end = PREFIX_BYTES + size
    if (this.#length < end) return undefined
    const whole = this.#joined(this.#length)
    const rest = whole.subarray(end)
    this.#chunks = rest.byteLength === 0 ? [] : [rest]
    this.#length = rest.byteLength
    return whole.subarray(PREFIX_BYTES, end)
  }

  /** At least the first `bytes` bytes in one piece. */
  #joined(bytes: number): Buffer {
    const first = this.#chunks[0] ?? Buffer.alloc(0)
    if (first.byteLength >= bytes) return first
    const whole = Buffer.concat(this.#chunks)
    this.#chunks = [whole]
    return whole
  }
}
