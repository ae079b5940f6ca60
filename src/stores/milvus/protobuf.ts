/** Protobuf as the two hot messages need it: written from front to back with lengths that are known, read where it lies. */

const VARINT = 0
const FIXED64 = 1
const LENGTH = 2
const FIXED32 = 5
const SAFE_HIGH = 0x1f_ffff
const SCRATCH_BYTES = 16 * 1024

/** Where messages are written; one at a time, and what is too long for it gets memory of its own. */
const scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

/** How many bytes a length or a field's tag takes. */
export function varintSize(value: number): number {
  let size = 1
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++
  return size
}

/** How many bytes a field of so many bytes takes, its tag and length included. */
export function fieldSize(field: number, bytes: number): number {
  return varintSize(field * 8) + varintSize(bytes) + bytes
}

/** Writes one message, which must be ended before the next is begun. */
export class Writer {
  #bytes = scratch
  #at = 0

  /** A whole number of 0 or more. */
  number(field: number, value: number): this {
    this.#room(20)
    this.#varint(field * 8 + VARINT)
    this.#varint(value)
    return this
  }

  text(field: number, value: string): this {
    const bytes = Buffer.byteLength(value)
    this.message(field, bytes)
    this.#bytes.write(value, this.#at, bytes, "utf8")
    this.#at += bytes
    return this
  }

  /** The numbers as they lie in memory, which is what the format says on machines of today. */
  floats(field: number, value: Float32Array): this {
    this.message(field, value.byteLength)
    this.#bytes.set(new Uint8Array(value.buffer, value.byteOffset, value.byteLength), this.#at)
    this.#at += value.byteLength
    return this
  }

  /** Begins a field of `bytes` bytes; what is written next is its content. */
  message(field: number, bytes: number): this {
    this.#room(20 + bytes)
    this.#varint(field * 8 + LENGTH)
    this.#varint(bytes)
    return this
  }

  /** What was written. The writer is used up. */
  end(): Buffer {
    const written = this.#bytes.subarray(0, this.#at)
    return this.#bytes === scratch ? Buffer.from(written) : written
  }

  #varint(value: number): void {
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#at++] = (rest % 0x80) + 0x80
    this.#bytes[this.#at++] = rest
  }

  #room(bytes: number): void {
    const needed = this.#at + bytes
    if (needed <= this.#bytes.length) return
    const more = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#bytes.length))
    more.set(this.#bytes.subarray(0, this.#at))
    this.#bytes = more
  }
}

/** Reads one message, or one inside of another. Throws RangeError where it is cut off or no protobuf. */
export class Reader {
  readonly bytes: Buffer
  at = 0
  readonly #view: DataView

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** A whole number below 2^32, as tags and lengths are. */
  uint32(): number {
    let value = 0
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = this.#byte()
      if (shift < 32) value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
    throw broken()
  }

  int32(): number {
    return this.uint32() | 0
  }

  /** A number where it is one for sure, else a bigint. */
  int64(): number | bigint {
    let low = 0
    let high = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte()
      const bits = byte & 0x7f
      if (shift < 28) low |= bits << shift
      else if (shift === 28) {
        low |= bits << 28
        high = bits >>> 4
      } else high |= bits << (shift - 32)
      if (byte < 0x80) return whole(low >>> 0, high >>> 0)
    }
    throw broken()
  }

  float(): number {
    this.#mayRead(4)
    this.at += 4
    return this.#view.getFloat32(this.at - 4, true)
  }

  /** So many floats, in memory of their own. */
  floats(count: number): Float32Array {
    const bytes = 4 * count
    this.#mayRead(bytes)
    const own = new Uint8Array(bytes)
    own.set(this.bytes.subarray(this.at, this.at + bytes))
    this.at += bytes
    return new Float32Array(own.buffer)
  }

  text(): string {
    const end = this.end()
    const text = this.at === end ? "" : this.bytes.toString("utf8", this.at, end)
    this.at = end
    return text
  }

  /** Where the field that begins with its length here ends. */
  end(): number {
    const length = this.uint32()
    this.#mayRead(length)
    return this.at + length
  }

  /** Passes a field over. */
  skip(tag: number): void {
    switch (tag & 7) {
      case VARINT:
        this.int64()
        break
      case FIXED64:
        this.#mayRead(8)
        this.at += 8
        break
      case LENGTH:
        this.at = this.end()
        break
      case FIXED32:
        this.#mayRead(4)
        this.at += 4
        break
      default:
        throw broken()
    }
  }

  #byte(): number {
    const byte = this.bytes[this.at++]
    if (byte === undefined) throw broken()
    return byte
  }

  #mayRead(bytes: number): void {
    if (this.at + bytes > this.bytes.length) throw broken()
  }
}

function whole(low: number, high: number): number | bigint {
  if (high <= SAFE_HIGH) return high * 0x1_0000_0000 + low
  const value = BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low))
  return value < 0n && value >= -BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

function broken(): RangeError {
  return new RangeError("the vector store's answer is no message")
}
