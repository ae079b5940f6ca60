/**
 * One connection's bytes. The driver connects, shows its credentials and finds the master; once it is through, commands and answers go past it
 * over its socket, for its own queue, promises and parser cost more than all else that a call does here. Commands of one turn of the
 * event loop leave in one packet, and while the answers to a packet are awaited the next one gathers, so that many callers cost few
 * system calls and one caller waits for nobody. A packet of some size leaves at once, so that the server is at work while the rest of
 * a burst is still being read here.
 */
import type { Duplex } from "node:stream"
import { type Answer, asList, asNumber } from "./answers.ts"
import { storeUnavailable } from "./errors.ts"
import { Packet, Preformed } from "./packet.ts"
import { Replies, ReplyError } from "./replies.ts"

/** A command under way. Exactly one of its ends is told: `answered`, `failed` or `late`. */
export abstract class Call {
  /** When nobody waits for the answer any more, by the process' own clock; Infinity: the answer or the connection's end is waited for. */
  untilMs = Number.POSITIVE_INFINITY
  /** Whether nothing was told yet. */
  isOut = true
  /** The server's time just before, for calls that ask for it. */
  time: PacketTime | undefined
  /** Who is answered next. */
  next: Call | undefined

  /** Writes the command. */
  abstract write(packet: Packet): void
  /** Told the answer. */
  abstract answered(answer: Answer): void
  /** Told what the server refused it with, or how the connection ended. */
  abstract failed(error: unknown): void
  /** Told that its time is over. */
  abstract late(): void
}

const TIME = new Preformed(["TIME"])

/** The server's time as of a packet. It is answered before any that asks for it. */
export class PacketTime extends Call {
  nowMs: number | undefined
  /** Why there is none. */
  failure: unknown

  write(packet: Packet): void {
    packet.begin(1)
    packet.word(TIME)
  }

  answered(answer: Answer): void {
    const [seconds, micros] = asList(answer)
    this.nowMs = asNumber(seconds) * 1_000 + Math.floor(asNumber(micros) / 1_000)
  }

  failed(error: unknown): void {
    this.failure = error
  }

  late(): void {
    this.failure = storeUnavailable()
  }
}

/** What a wire tells its owner. */
export interface WireEvents {
  /** The server refused a command. */
  refused(error: ReplyError): void
}

/** Commands that are worth a packet. With 16 in place of all that 64 callers ask at once, writes by script gain a third; 8 gain no more and cost more. */
const ENOUGH = 16

/** See the file's comment. */
export class Wire {
  readonly #stream: Duplex
  readonly #silenceMs: number
  readonly #events: WireEvents
  readonly #packet = new Packet()
  readonly #replies = new Replies((answer) => this.#told(answer))
  #first: Call | undefined
  #last: Call | undefined
  /** The first that is still in the packet. */
  #unsent: Call | undefined
  /** The last of the packet whose answers are awaited. */
  #awaited: Call | undefined
  /** The server's time as of the packet that gathers, once somebody has asked for it. */
  #time: PacketTime | undefined
  /** Commands in the packet that gathers. */
  #gathered = 0
  #quietSinceMs = 0
  #alarm: NodeJS.Timeout | undefined
  #alarmMs = Number.POSITIVE_INFINITY
  readonly #go = () => this.#send()
  readonly #look = () => this.#findLate()

  /** @param silenceMs a connection that answers nothing for so long is as good as gone. */
  constructor(stream: Duplex, silenceMs: number, events: WireEvents) {
    this.#stream = stream
    this.#silenceMs = silenceMs
    this.#events = events
    const drivers = stream.listeners("data") as ((piece: Buffer) => void)[]
    stream.on("data", (piece: Buffer) => this.#read(piece))
    for (const driver of drivers) stream.off("data", driver)
    stream.once("close", () => this.#end())
  }

  /** Whether commands can be sent. */
  get isOpen(): boolean {
    return this.#stream.writable
  }

  /** Sends a call's command with the next packet. */
  begin(call: Call): void {
    const wasEmpty = this.#first === undefined
    call.write(this.#packet)
    if (this.#last === undefined) this.#first = call
    else this.#last.next = call
    this.#last = call
    this.#gathered++
    if (this.#unsent === undefined) {
      this.#unsent = call
      if (this.#awaited === undefined) setImmediate(this.#go)
    } else if (this.#gathered >= ENOUGH && this.#stream.writableLength === 0) this.#send()
    if (wasEmpty) {
      this.#quietSinceMs = performance.now()
      this.#wake(Math.min(call.untilMs, this.#quietSinceMs + this.#silenceMs))
    } else this.#wake(call.untilMs)
  }

  /** As {@link begin}, for one that asks for the server's time: all calls of one packet ask once. */
  beginTimed(call: Call): void {
    let time = this.#time
    if (time === undefined) {
      time = new PacketTime()
      this.#time = time
      // It may leave with the packet before the call's, and is answered before it all the same.
      this.begin(time)
    }
    call.time = time
    this.begin(call)
  }

  #send(): void {
    if (this.#unsent === undefined) return
    this.#unsent = undefined
    this.#gathered = 0
    this.#time = undefined
    this.#awaited = this.#last
    const pieces = this.#packet.take()
    if (pieces.length > 1) this.#stream.cork()
    for (const piece of pieces) this.#stream.write(piece)
    if (pieces.length > 1) this.#stream.uncork()
  }

  #read(piece: Buffer): void {
    this.#quietSinceMs = performance.now()
    try {
      this.#replies.read(piece)
    } catch (error) {
      this.#stream.destroy(error instanceof Error ? error : undefined)
    }
  }

  #told(answer: Answer | ReplyError): void {
    const call = this.#first
    if (call === undefined) throw new TypeError("the server answered what nobody has asked")
    this.#first = call.next
    if (this.#first === undefined) this.#last = undefined
    if (call === this.#awaited) {
      this.#awaited = undefined
      if (this.#unsent !== undefined) setImmediate(this.#go)
    }
    if (answer instanceof ReplyError) this.#events.refused(answer)
    if (!call.isOut) return
    call.isOut = false
    if (answer instanceof ReplyError) call.failed(answer)
    else call.answered(answer)
  }

  /** The connection is gone: what was sent may have been done. */
  #end(): void {
    clearTimeout(this.#alarm)
    let call = this.#first
    let isSent = true
    const unsent = this.#unsent
    this.#first = undefined
    this.#last = undefined
    this.#unsent = undefined
    this.#awaited = undefined
    while (call !== undefined) {
      if (call === unsent) isSent = false
      if (call.isOut) {
        call.isOut = false
        call.failed(isSent ? new Error("the connection ended") : storeUnavailable())
      }
      call = call.next
    }
  }

  #wake(atMs: number): void {
    if (atMs >= this.#alarmMs) return
    clearTimeout(this.#alarm)
    this.#alarmMs = atMs
    this.#alarm = setTimeout(this.#look, Math.max(1, Math.ceil(atMs - performance.now())))
    // The socket keeps the process going for as long as somebody waits.
    this.#alarm.unref()
  }

  /** Gives up calls whose time is over, and the connection where nothing has come for too long. */
  #findLate(): void {
    this.#alarmMs = Number.POSITIVE_INFINITY
    const nowMs = performance.now()
    let nextMs = Number.POSITIVE_INFINITY
    for (let call = this.#first; call !== undefined; call = call.next) {
      if (!call.isOut) continue
      if (call.untilMs > nowMs) nextMs = Math.min(nextMs, call.untilMs)
      else {
        call.isOut = false
        call.late()
      }
    }
    if (this.#first === undefined) return
    const silentMs = this.#quietSinceMs + this.#silenceMs
    if (silentMs <= nowMs) this.#stream.destroy(new Error("the server is silent"))
    else this.#wake(Math.min(nextMs, silentMs))
  }
}
