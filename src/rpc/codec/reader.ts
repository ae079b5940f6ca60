/** Reads well-formed protobuf; throws UNUSUAL on everything else, of which protobuf-es then says what it is. */
import { UNUSUAL } from "./source.ts"

/** Up to this many bytes, taking them one by one beats a call into the runtime. */
const SHORT = 12
const EMPTY = Buffer.alloc(0)
const scratch = new DataView(new ArrayBuffer(8))
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Text of few bytes; undefined where it is not ASCII. */
function shortAscii(bytes: Buffer, start: number, stop: number): string | undefined {
  let text = ""
  let pos = start
  for (; pos + 4 <= stop; pos += 4) {
    const a = bytes[pos] as number
    const b = bytes[pos + 1] as number
    const c = bytes[pos + 2] as number
    const d = bytes[pos + 3] as number
    if ((a | b | c | d) > 0x7f) return undefined
    text += String.fromCharCode(a, b, c, d)
  }
  for (; pos < stop; pos++) {
    const code = bytes[pos] as number
    if (code > 0x7f) return undefined
    text += String.fromCharCode(code)
  }
  return text
}

/** A reader of one message at a time. */
export class Reader {
  pos = 0
  /** How deep messages have nested so far; a message that contains no other is 1. */
  deepest = 0
  #bytes: Buffer = EMPTY
  /** What the caller gave, of which byte fields are parts. */
  #given: Uint8Array = EMPTY
  #maxDepth = 0

  /** Begins with a message. Nesting deeper than `maxDepth` is unusual. */
  begin(bytes: Uint8Array, maxDepth: number): void {
    this.#bytes = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#given = bytes
    this.#maxDepth = maxDepth
    this.pos = 0
    this.deepest = 0
  }

  /** Lets go of the message. */
  end(): void {
    this.#bytes = EMPTY
    this.#given = EMPTY
  }

  /** Every message that is read begins with this. */
  enter(depth: number): void {
    if (depth <= this.deepest) return
    if (depth > this.#maxDepth) throw UNUSUAL
    this.deepest = depth
  }

  /** Where the message that begins here ends, which must not be beyond `end`. */
  nested(end: number): number {
    const length = this.uint32()
    const stop = this.pos + length
    if (stop > end) throw UNUSUAL
    return stop
  }

  /** A field's number and wire type. */
  tag(): number {
    const byte = this.#bytes[this.pos] as number
    if (byte < 0x80) {
      this.pos++
      return byte
    }
    const start = this.pos
    const tag = this.#long()
    // No field of ours needs more; what does may be no tag at all.
    if (this.pos - start > 4) throw UNUSUAL
    return tag
  }

  uint32(): number {
    const byte = this.#bytes[this.pos] as number
    if (byte < 0x80) {
      this.pos++
      return byte
    }
    return this.#long() >>> 0
  }

  int32(): number {
    const byte = this.#bytes[this.pos] as number
    if (byte < 0x80) {
      this.pos++
      return byte
    }
    return this.#long() | 0
  }

  bool(): boolean {
    const byte = this.#bytes[this.pos++] as number
    if (!(byte < 2)) throw UNUSUAL
    return byte === 1
  }

  int64(): bigint {
    return this.#long64(true)
  }

  uint64(): bigint {
    return this.#long64(false)
  }

  double(end: number): number {
    if (this.pos + 8 > end) throw UNUSUAL
    this.pos += 8
    return this.#bytes.readDoubleLE(this.pos - 8)
  }

  float(end: number): number {
    if (this.pos + 4 > end) throw UNUSUAL
    this.pos += 4
    return this.#bytes.readFloatLE(this.pos - 4)
  }

  bytes(end: number): Uint8Array {
    const stop = this.nested(end)
    const start = this.pos
    this.pos = stop
    return this.#given.subarray(start, stop)
  }

  string(end: number): string {
    const stop = this.nested(end)
    const start = this.pos
    this.pos = stop
    const bytes = this.#bytes
    if (stop - start <= SHORT) {
      const ascii = shortAscii(bytes, start, stop)
      if (ascii !== undefined) return ascii
    }
    const text = bytes.toString("utf8", start, stop)
    // It stands for what is no UTF-8, unless somebody sent just that.
    if (text.includes("\ufffd")) return strict.decode(bytes.subarray(start, stop))
    return text
  }

  /** A field that the type does not have. */
  skip(tag: number, end: number): void {
    if (tag < 8) throw UNUSUAL
    switch (tag & 7) {
      case 0: {
        const limit = this.pos + 10
        while ((this.#bytes[this.pos++] as number) > 0x7f) if (this.pos >= limit) throw UNUSUAL
        break
      }
      case 1:
        this.pos += 8
        break
      case 2:
        this.pos = this.nested(end)
        break
      case 5:
        this.pos += 4
        break
      default:
        throw UNUSUAL
    }
  }

  /** A google.protobuf.Struct, as the JSON object that stands for it. */
  struct(end: number, depth: number): Record<string, unknown> {
    this.enter(depth)
    const json: Record<string, unknown> = {}
    while (this.pos < end) {
      if (this.tag() !== 0x0a) throw UNUSUAL
      this.#entry(json, this.nested(end), depth)
    }
    if (this.pos !== end) throw UNUSUAL
    return json
  }

  #entry(json: Record<string, unknown>, end: number, depth: number): void {
    if (this.tag() !== 0x0a) throw UNUSUAL
    const key = this.string(end)
    if (key === "__proto__") throw UNUSUAL
    if (this.tag() !== 0x12) throw UNUSUAL
    json[key] = this.#value(this.nested(end), depth + 1)
    if (this.pos !== end) throw UNUSUAL
  }

  #value(end: number, depth: number): unknown {
    this.enter(depth)
    if (this.pos === end) return null
    const value = this.#kind(end, depth)
    if (this.pos !== end) throw UNUSUAL
    return value
  }

  #kind(end: number, depth: number): unknown {
    switch (this.tag()) {
      case 0x08:
        this.int32()
        return null
      case 0x11:
        return this.double(end)
      case 0x1a:
        return this.string(end)
      case 0x20:
        return this.bool()
      case 0x2a:
        return this.struct(this.nested(end), depth + 1)
      case 0x32:
        return this.#list(this.nested(end), depth + 1)
      default:
        throw UNUSUAL
    }
  }

  #list(end: number, depth: number): unknown[] {
    this.enter(depth)
    const items: unknown[] = []
    while (this.pos < end) {
      if (this.tag() !== 0x0a) throw UNUSUAL
      items.push(this.#value(this.nested(end), depth + 1))
    }
    if (this.pos !== end) throw UNUSUAL
    return items
  }

  /** The low 32 bits of a varint that has more than one byte: up to five, or ten for a negative number. */
  #long(): number {
    const bytes = this.#bytes
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = bytes[this.pos++] as number
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
    for (let count = 5; count < 10; count++) {
      if ((bytes[this.pos++] as number) < 0x80) return value
    }
    throw UNUSUAL
  }

  #long64(signed: boolean): bigint {
    const bytes = this.#bytes
    let low = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = bytes[this.pos++] as number
      low |= (byte & 0x7f) << shift
      if (byte < 0x80) return BigInt(low)
    }
    const middle = bytes[this.pos++] as number
    low |= (middle & 0x0f) << 28
    let high = (middle & 0x70) >> 4
    if (middle > 0x7f) high |= this.#high()
    if (!(middle >= 0)) throw UNUSUAL
    scratch.setInt32(0, low, true)
    scratch.setInt32(4, high, true)
    return signed ? scratch.getBigInt64(0, true) : scratch.getBigUint64(0, true)
  }

  #high(): number {
    let high = 0
    for (let shift = 3; shift <= 31; shift += 7) {
      const byte = this.#bytes[this.pos++] as number
      high |= (byte & 0x7f) << shift
      if (byte < 0x80) return high
    }
    throw UNUSUAL
  }
}
