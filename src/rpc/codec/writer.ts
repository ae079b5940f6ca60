/**
 * Writes protobuf from the end to the beginning: the length of a nested message is known when its turn comes, so nothing
 * is moved or measured beforehand. Every value leaves room for the tag that is written after (in the bytes: before) it.
 */
import { UNUSUAL } from "./source.ts"

/** Messages share blocks of this size. */
const BLOCK_BYTES = 32 * 1024
/** Room for a length and two tags, or for a number and a tag. */
const ROOM = 24
/** Up to this many characters or bytes, copying them one by one beats a call into the runtime. */
const SHORT_TEXT = 32
const SHORT_BYTES = 12
const EMPTY = Buffer.alloc(0)
const NO_VIEW = new DataView(new ArrayBuffer(0))
const scratch = new DataView(new ArrayBuffer(8))

/** A writer of one message at a time. */
export class Writer {
  #bytes: Buffer = EMPTY
  #view = NO_VIEW
  /** Where the message ends; it moves with the bytes when they grow. */
  #limit = 0
  #pos = 0

  /** How many bytes the message has so far; hand it to {@link close} to end what began after it. */
  get written(): number {
    return this.#limit - this.#pos
  }

  /** Begins a message of about `size` bytes: a large one need not grow into its size by copies of itself. */
  begin(size: number): void {
    if (size > BLOCK_BYTES / 2) this.#renew(size + (size >> 2) + ROOM)
  }

  /** Ends the message. Before its first byte lie `room` bytes for the caller to fill. */
  finish(room: number): Buffer {
    if (this.#pos < room) this.#grow(room)
    const begin = this.#pos - room
    const message = this.#bytes.subarray(begin, this.#limit)
    this.#limit = begin
    this.#pos = begin
    // A block that a large message asked for goes with the message.
    if (this.#bytes.length > BLOCK_BYTES) this.#drop()
    return message
  }

  /** Forgets a message that could not be written. */
  reset(): void {
    this.#pos = this.#limit
    if (this.#bytes.length > BLOCK_BYTES) this.#drop()
  }

  /** A tag below 128. Needs no check of the room, like {@link longTag}. */
  tag(tag: number): void {
    this.#bytes[--this.#pos] = tag
  }

  /** Any tag. */
  longTag(tag: number): void {
    this.#varint(tag)
  }

  /** The length of everything since `mark`. */
  close(mark: number): void {
    if (this.#pos < ROOM) this.#grow(ROOM)
    this.#varint(this.#limit - this.#pos - mark)
  }

  bool(value: unknown): void {
    if (typeof value !== "boolean") throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    this.#bytes[--this.#pos] = value ? 1 : 0
  }

  int32(value: unknown): void {
    if (typeof value !== "number" || (value | 0) !== value) throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    if (value >= 0) this.#varint(value)
    else this.#varint64(value >>> 0, 0xffffffff)
  }

  uint32(value: unknown): void {
    if (typeof value !== "number" || value >>> 0 !== value) throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    this.#varint(value)
  }

  int64(value: unknown): void {
    if (typeof value !== "bigint") throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    const number = Number(value)
    if (number >= 0 && number <= Number.MAX_SAFE_INTEGER) {
      this.#safe(number)
      return
    }
    if (BigInt.asIntN(64, value) !== value) throw UNUSUAL
    scratch.setBigInt64(0, value, true)
    this.#varint64(scratch.getUint32(0, true), scratch.getUint32(4, true))
  }

  uint64(value: unknown): void {
    if (typeof value !== "bigint") throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    const number = Number(value)
    if (number >= 0 && number <= Number.MAX_SAFE_INTEGER) {
      this.#safe(number)
      return
    }
    if (BigInt.asUintN(64, value) !== value) throw UNUSUAL
    scratch.setBigUint64(0, value, true)
    this.#varint64(scratch.getUint32(0, true), scratch.getUint32(4, true))
  }

  double(value: unknown): void {
    if (typeof value !== "number") throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    this.#pos -= 8
    this.#view.setFloat64(this.#pos, value, true)
  }

  float(value: unknown): void {
    if (typeof value !== "number") throw UNUSUAL
    if (this.#pos < ROOM) this.#grow(ROOM)
    this.#pos -= 4
    this.#view.setFloat32(this.#pos, value, true)
    // One that is too large for a float would become infinity.
    if (Number.isFinite(value) && !Number.isFinite(Math.fround(value))) throw UNUSUAL
  }

  string(value: unknown): void {
    if (typeof value !== "string") throw UNUSUAL
    const { length } = value
    if (length > SHORT_TEXT) {
      this.#longString(value)
      return
    }
    if (this.#pos < length + ROOM) this.#grow(length + ROOM)
    const bytes = this.#bytes
    let pos = this.#pos
    for (let index = length - 1; index >= 0; index--) {
      const code = value.charCodeAt(index)
      if (code > 0x7f) {
        this.#longString(value)
        return
      }
      bytes[--pos] = code
    }
    bytes[--pos] = length
    this.#pos = pos
  }

  bytes(value: unknown): void {
    if (!(value instanceof Uint8Array)) throw UNUSUAL
    const { length } = value
    if (this.#pos < length + ROOM) this.#grow(length + ROOM)
    this.#pos -= length
    if (length > SHORT_BYTES) this.#bytes.set(value, this.#pos)
    else for (let index = 0; index < length; index++) this.#bytes[this.#pos + index] = value[index] as number
    this.#varint(length)
  }

  /** The body of a google.protobuf.Struct. */
  struct(json: unknown): void {
    if (typeof json !== "object" || json === null || Array.isArray(json)) throw UNUSUAL
    const keys = Object.keys(json)
    for (let index = keys.length - 1; index >= 0; index--) {
      const key = keys[index] as string
      const entry = this.written
      this.#value((json as Record<string, unknown>)[key])
      this.close(entry)
      this.tag(0x12)
      this.string(key)
      this.tag(0x0a)
      this.close(entry)
      this.tag(0x0a)
    }
  }

  /** The body of a google.protobuf.Value; empty for what JSON does not have. */
  #value(json: unknown): void {
    switch (typeof json) {
      case "string":
        this.string(json)
        this.tag(0x1a)
        return
      case "number":
        this.double(json)
        this.tag(0x11)
        return
      case "boolean":
        this.bool(json)
        this.tag(0x20)
        return
      case "object":
        if (json === null) {
          this.int32(0)
          this.tag(0x08)
          return
        }
        this.#nested(json)
    }
  }

  #nested(json: object): void {
    const mark = this.written
    if (!Array.isArray(json)) {
      this.struct(json)
      this.close(mark)
      this.tag(0x2a)
      return
    }
    for (let index = json.length - 1; index >= 0; index--) {
      const item = this.written
      this.#value(json[index])
      this.close(item)
      this.tag(0x0a)
    }
    this.close(mark)
    this.tag(0x32)
  }

  #longString(value: string): void {
    const length = Buffer.byteLength(value)
    if (this.#pos < length + ROOM) this.#grow(length + ROOM)
    this.#pos -= length
    this.#bytes.write(value, this.#pos, length, length === value.length ? "latin1" : "utf8")
    this.#varint(length)
  }

  /** A whole number from 0 to 2^53 - 1. */
  #safe(value: number): void {
    if (value < 0x10000000) {
      this.#varint(value)
      return
    }
    // The low 28 bits are four bytes, and what is above them has at most 25.
    const high = Math.floor(value / 0x10000000)
    const low = value - high * 0x10000000
    this.#varint(high)
    this.#pos -= 4
    const bytes = this.#bytes
    const pos = this.#pos
    bytes[pos] = low | 0x80
    bytes[pos + 1] = (low >>> 7) | 0x80
    bytes[pos + 2] = (low >>> 14) | 0x80
    bytes[pos + 3] = (low >>> 21) | 0x80
  }

  #varint(value: number): void {
    const bytes = this.#bytes
    if (value < 0x80) {
      bytes[--this.#pos] = value
      return
    }
    let rest = value >>> 7
    let size = 2
    while (rest > 0x7f) {
      rest >>>= 7
      size++
    }
    let pos = this.#pos - size
    this.#pos = pos
    rest = value
    while (rest > 0x7f) {
      bytes[pos++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    bytes[pos] = rest
  }

  #varint64(low: number, high: number): void {
    if (high === 0) {
      this.#varint(low)
      return
    }
    const size = Math.ceil((64 - Math.clz32(high)) / 7)
    this.#pos -= size
    let lo = low
    let hi = high
    let pos = this.#pos
    for (let index = 1; index < size; index++) {
      this.#bytes[pos++] = (lo & 0x7f) | 0x80
      lo = ((lo >>> 7) | (hi << 25)) >>> 0
      hi >>>= 7
    }
    this.#bytes[pos] = lo & 0x7f
  }

  #grow(room: number): void {
    const needed = this.written + room
    this.#renew(needed <= BLOCK_BYTES / 2 ? BLOCK_BYTES : 2 * needed)
  }

  /** Goes on in another block. */
  #renew(size: number): void {
    const { written } = this
    const bytes = Buffer.allocUnsafeSlow(size)
    bytes.set(this.#bytes.subarray(this.#pos, this.#limit), size - written)
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer)
    this.#limit = size
    this.#pos = size - written
  }

  #drop(): void {
    this.#bytes = EMPTY
    this.#view = NO_VIEW
    this.#limit = 0
    this.#pos = 0
  }
}
