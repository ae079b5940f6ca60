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

/** How many parts an entry without tags has. */
const UNTAGGED = 7

/** Reads an entry. Raises TypeError for what no script has written. */
export function readEntry(raw: Buffer): StoredEntry {
  const reader = new Reader(raw)
  const length = reader.listLength()
  if (length < UNTAGGED) throw new TypeError("a stored entry is too short")
  const kind = reader.kind()
  const revision = BigInt(reader.number())
  const expires = reader.number()
  reader.number()
  const bytes = reader.number()
  const value = reader.bytes()
  return {
    kind,
    revision,
    expires: expires < 0 ? Number.POSITIVE_INFINITY : expires,
    bytes,
    value,
    isTagged: length > UNTAGGED,
  }
}

/** The letters of the commonest kind, and its length before them. */
const VALUE = Buffer.from("\u00a5value", "latin1")

/** MessagePack, as far as the servers' library writes it for numbers, texts and lists. */
class Reader {
  readonly #from: Buffer
  #at = 0

  constructor(from: Buffer) {
    this.#from = from
  }

  listLength(): number {
    const head = this.#unsigned(1)
    if ((head & 0xf0) === 0x90) return head & 0x0f
    if (head === 0xdc) return this.#unsigned(2)
    if (head === 0xdd) return this.#unsigned(4)
    throw new TypeError("a stored entry is no list")
  }

  /** A kind of key. */
  kind(): string {
    const from = this.#from
    let same = 0
    while (same < VALUE.length && from[this.#at + same] === VALUE[same]) same++
    if (same < VALUE.length) return this.bytes().toString("latin1")
    this.#at += same
    return "value"
  }

  number(): number {
    const head = this.#unsigned(1)
    if (head < 0x80) return head
    if (head >= 0xe0) return head - 0x100
    switch (head) {
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return this.#unsigned(1 << (head - 0xcc))
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return this.#signed(1 << (head - 0xd0))
      case 0xca:
        this.#at += 4
        return this.#from.readFloatBE(this.#at - 4)
      case 0xcb:
        this.#at += 8
        return this.#from.readDoubleBE(this.#at - 8)
      default:
        throw new TypeError("a stored entry has another form")
    }
  }

  bytes(): Buffer {
    const head = this.#unsigned(1)
    let length: number
    if (head >= 0xa0 && head < 0xc0) length = head & 0x1f
    else if (head >= 0xd9 && head <= 0xdb) length = this.#unsigned(1 << (head - 0xd9))
    else if (head >= 0xc4 && head <= 0xc6) length = this.#unsigned(1 << (head - 0xc4))
    else throw new TypeError("a stored entry has another form")
    const start = this.#at
    this.#at += length
    if (this.#at > this.#from.length) throw new TypeError("a stored entry is cut off")
    return this.#from.subarray(start, this.#at)
  }

  #unsigned(size: number): number {
    const from = this.#from
    const end = this.#at + size
    if (end > from.length) throw new TypeError("a stored entry is cut off")
    let value = 0
    while (this.#at < end) value = value * 256 + (from[this.#at++] as number)
    return value
  }

  #signed(size: number): number {
    const at = this.#at
    this.#at += size
    return size === 8 ? Number(this.#from.readBigInt64BE(at)) : this.#from.readIntBE(at, size)
  }
}
