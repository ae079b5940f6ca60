/** A command that is put into bytes in one go, where the driver makes a buffer of every argument once one of them is binary. */
import { Command } from "ioredis"
import type { Argument } from "./answers.ts"

/** Arguments that many calls have in common, in the protocol's form. */
export class Preformed {
  /** The first of them, which says to which server a script goes. */
  readonly first: string
  readonly count: number
  readonly text: string

  constructor(words: readonly [string, ...string[]]) {
    this.first = words[0]
    this.count = words.length
    // The detour over bytes makes one flat text of all the pieces, which is cheaper to use again and again.
    this.text = Buffer.from(words.map(bulk).join("")).toString()
  }
}

/** What a command is made of. */
export type Word = Argument | Preformed

/** See the file's comment. Answers come as bytes. */
export class PackedCommand extends Command {
  readonly #words: readonly Word[]

  constructor(name: string, words: readonly Word[]) {
    // The driver looks at arguments to turn them into text, one by one.
    super(name.toLowerCase(), NONE, { replyEncoding: null })
    this.#words = words
  }

  override toWritable(): string | Buffer {
    let count = 1
    for (const word of this.#words) count += word instanceof Preformed ? word.count : 1
    const pieces: (string | Buffer)[] = []
    let text = `*${count}\r\n$${this.name.length}\r\n${this.name}\r\n`
    for (const word of this.#words) {
      if (typeof word === "string") text += bulk(word)
      else if (typeof word === "number") text += bulk(String(word))
      else if (word instanceof Preformed) text += word.text
      else {
        pieces.push(`${text}$${word.length}\r\n`, word)
        text = "\r\n"
      }
    }
    if (pieces.length === 0) return text
    pieces.push(text)
    return joined(pieces)
  }
}

const NONE: Argument[] = []

function bulk(word: string): string {
  return `$${Buffer.byteLength(word)}\r\n${word}\r\n`
}

function joined(pieces: readonly (string | Buffer)[]): Buffer {
  let size = 0
  for (const piece of pieces) size += typeof piece === "string" ? Buffer.byteLength(piece) : piece.length
  const whole = Buffer.allocUnsafe(size)
  let at = 0
  for (const piece of pieces) {
    at += typeof piece === "string" ? whole.write(piece, at) : piece.copy(whole, at)
  }
  return whole
}
