/** A command that is put into bytes in one go, where the driver makes a buffer of every argument once one of them is binary. */
import { Command } from "ioredis"
import type { Argument } from "./answers.ts"

/** See the file's comment. Answers come as bytes. */
export class PackedCommand extends Command {
  constructor(name: string, args: readonly Argument[]) {
    super(name.toLowerCase(), args as Argument[], { replyEncoding: null })
  }

  override toWritable(): string | Buffer {
    const pieces: (string | Buffer)[] = []
    let text = `*${this.args.length + 1}\r\n$${this.name.length}\r\n${this.name}\r\n`
    for (const arg of this.args) {
      if (Buffer.isBuffer(arg)) {
        pieces.push(`${text}$${arg.length}\r\n`, arg)
        text = "\r\n"
      } else {
        const word = String(arg)
        text += `$${Buffer.byteLength(word)}\r\n${word}\r\n`
      }
    }
    if (pieces.length === 0) return text
    pieces.push(text)
    return joined(pieces)
  }
}

function joined(pieces: readonly (string | Buffer)[]): Buffer {
  const size = pieces.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0)
  const whole = Buffer.allocUnsafe(size)
  let at = 0
  for (const piece of pieces) {
    at += typeof piece === "string" ? whole.write(piece, at) : piece.copy(whole, at)
  }
  return whole
}
