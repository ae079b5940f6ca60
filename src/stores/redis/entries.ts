/** Entries as the scripts keep them: a MessagePack list of kind, revision, expiry, time to live, bytes, value, places, tags and stamps. */

/** What reading an entry needs. */
export interface StoredEntry {
  readonly kind: string
  readonly revision: bigint
  /** Milliseconds since the epoch; Infinity for none. */
  readonly expires: number
  /** What it counts. */
  readonly bytes: number
  readonly value: Buffer
  /** Whether only the versions of its tags can tell if it lives. */
  readonly isTagged: boolean
}

/** Where kind, revision, expiry, bytes and value stand, and how many parts an entry without tags has. */
const [KIND, REVISION, EXPIRES, BYTES, VALUE, UNTAGGED] = [0, 1, 2, 4, 5, 7]

/** Reads an entry. Raises TypeError for what no script has written. */
export function readEntry(raw: Buffer): StoredEntry {
  const reader = new Reader(raw)
  const length = reader.listLength()
  if (length < UNTAGGED) throw new TypeError("a stored entry is too short")
  const parts: (number | bigint | Buffer)[] = []
  while (parts.length <= VALUE) parts.push(reader.next())
  const [kind, value] = [parts[KIND], parts[VALUE]]
  if (!Buffer.isBuffer(kind) || !Buffer.isBuffer(value))
    throw new TypeError("a stored entry has another form")
  const expires = Number(parts[EXPIRES])
  return {
    kind: kind.toString("latin1"),
    revision: BigInt(Number(parts[REVISION])),
    expires: expires < 0 ? Number.POSITIVE_INFINITY : expires,
    bytes: Number(parts[BYTES]),
    value,
    isTagged: length > UNTAGGED,
  }
}

/** MessagePack, as far as the servers' library writes it for numbers, texts and lists. */
class Reader {
  readonly #from: Buffer
  #at = 0

  constructor(from: Buffer) {
    this.#from = from
  }

  listLength(): number {
    const head = this.#byte()
    if ((head & 0xf0) === 0x90) return head & 0x0f
    if (head === 0xdc) return this.#sized(2)
    if (head === 0xdd) return this.#sized(4)
    throw new TypeError("a stored entry is no list")
  }

  next(): number | Buffer {
    const head = this.#byte()
    if (head < 0x80) return head
    if (head >= 0xe0) return head - 0x100
    if (head >= 0xa0 && head < 0xc0) return this.#bytes(head & 0x1f)
    if (head >= 0xcc && head <= 0xcf) return this.#sized(1 << (head - 0xcc))
    if (head >= 0xd0 && head <= 0xd3) return this.#signed(1 << (head - 0xd0))
    if (head >= 0xd9 && head <= 0xdb) return this.#bytes(this.#sized(1 << (head - 0xd9)))
    if (head >= 0xc4 && head <= 0xc6) return this.#bytes(this.#sized(1 << (head - 0xc4)))
    if (head === 0xca) return this.#take(4, (at) => this.#from.readFloatBE(at))
    if (head === 0xcb) return this.#take(8, (at) => this.#from.readDoubleBE(at))
    throw new TypeError("a stored entry has a part of unknown form")
  }

  #byte(): number {
    return this.#from.readUInt8(this.#at++)
  }

  #sized(size: number): number {
    return this.#take(size, (at) =>
      size === 8 ? Number(this.#from.readBigUInt64BE(at)) : this.#from.readUIntBE(at, size),
    )
  }

  #signed(size: number): number {
    return this.#take(size, (at) =>
      size === 8 ? Number(this.#from.readBigInt64BE(at)) : this.#from.readIntBE(at, size),
    )
  }

  #take<T>(size: number, read: (at: number) => T): T {
    const value = read(this.#at)
    this.#at += size
    return value
  }

  #bytes(length: number): Buffer {
    const start = this.#at
    this.#at += length
    if (this.#at > this.#from.length) throw new TypeError("a stored entry is cut off")
    return this.#from.subarray(start, this.#at)
  }
}
