/** Commands in the protocol's form. Many of them lie in one piece of memory, so that they leave by one system call. */
import type { Argument } from "./answers.ts"

/** Arguments that many calls have in common, in the protocol's form. */
export class Preformed {
  /** The first of them, which says to which server a script goes. */
  readonly first: string
  readonly count: number
  readonly bytes: Buffer

  constructor(words: readonly [string, ...string[]]) {
    this.first = words[0]
    this.count = words.length
    this.bytes = Buffer.from(words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join(""))
  }
}

/** What a command is made of. */
export type Word = Argument | Preformed

const PIECE_BYTES = 65_536
/** Longer buffers go out from where they are. */
const COPIED_BYTES = 16_384
/** Longer texts are not looked at letter by letter. */
const SHORT = 64
/** What a word's length and the ends of its lines take at most. */
const FRAME_BYTES = 24

const [ZERO, DOLLAR, STAR, CR, LF] = [0x30, 0x24, 0x2a, 0x0d, 0x0a]

/** See the file's comment. */
export class Packet {
  #piece = Buffer.allocUnsafeSlow(PIECE_BYTES)
  /** Where what was not taken yet begins, and where the next byte goes. */
  #from = 0
  #at = 0
  #full: Buffer[] = []

  /** Adds a whole command. */
  command(name: string, words: readonly Word[]): void {
    let count = 1
    for (const word of words) count += word instanceof Preformed ? word.count : 1
    this.begin(count)
    this.word(name)
    for (const word of words) this.word(word)
  }

  /** Begins a command of so many words, its name included. */
  begin(words: number): void {
    this.#room(FRAME_BYTES)
    this.#line(STAR, words)
  }

  /** Adds a word, or some. */
  word(word: Word): void {
    if (typeof word === "string") this.#text(word)
    else if (typeof word === "number") this.#text(String(word))
    else if (word instanceof Preformed) this.#copy(word.bytes)
    else this.#bytes(word)
  }

  /** What has come together; the next begins anew. Its memory is not used again. */
  take(): readonly Buffer[] {
    this.#close()
    const taken = this.#full
    this.#full = []
    return taken
  }

  #text(word: string): void {
    const { length } = word
    if (length > SHORT) {
      this.#long(word)
      return
    }
    this.#room(length + FRAME_BYTES)
    const begun = this.#at
    this.#line(DOLLAR, length)
    const piece = this.#piece
    let at = this.#at
    for (let index = 0; index < length; index++) {
      const code = word.charCodeAt(index)
      if (code > 0x7f) {
        this.#at = begun
        this.#long(word)
        return
      }
      piece[at++] = code
    }
    this.#at = at
    this.#end()
  }

  #long(word: string): void {
    const size = Buffer.byteLength(word)
    this.#room(size + FRAME_BYTES)
    this.#line(DOLLAR, size)
    this.#at += this.#piece.write(word, this.#at)
    this.#end()
  }

  #bytes(word: Buffer): void {
    this.#room(FRAME_BYTES)
    this.#line(DOLLAR, word.length)
    if (word.length > COPIED_BYTES) {
      this.#close()
      this.#full.push(word)
    } else this.#copy(word)
    this.#room(FRAME_BYTES)
    this.#end()
  }

  #copy(bytes: Buffer): void {
    this.#room(bytes.length)
    this.#piece.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #line(type: number, value: number): void {
    const piece = this.#piece
    piece[this.#at++] = type
    if (value < 10) piece[this.#at++] = ZERO + value
    else if (value < 100) {
      piece[this.#at++] = ZERO + Math.trunc(value / 10)
      piece[this.#at++] = ZERO + (value % 10)
    } else this.#at += piece.write(String(value), this.#at, "latin1")
    this.#end()
  }

  #end(): void {
    this.#piece[this.#at++] = CR
    this.#piece[this.#at++] = LF
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#piece.length) return
    this.#close()
    this.#piece = Buffer.allocUnsafeSlow(Math.max(PIECE_BYTES, bytes))
    this.#from = 0
    this.#at = 0
  }

  #close(): void {
    if (this.#at === this.#from) return
    this.#full.push(this.#piece.subarray(this.#from, this.#at))
    this.#from = this.#at
  }
}
