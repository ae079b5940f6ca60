/**
 * One server, by one or several connections. Commands of one turn of the event loop leave in one packet, and while the answers to a packet
 * are awaited the next one gathers, so that many callers cost few system calls and one caller waits for nobody.
 */
import type { Redis } from "ioredis"
import type { Address, Endpoint } from "./address.ts"
import { type Answer, asList, asNumber } from "./answers.ts"
import { makeClient, type NodeSettings, Trouble } from "./client.ts"
import { PackedCommand, type Word } from "./packed-command.ts"

/** How many connections a node has unless something else is said: one keeps a server's thread busy. */
export const CONNECTIONS = 1

interface Lane {
  readonly client: Redis
  readonly trouble: Trouble
  /** Whether commands are gathered. */
  corked: boolean
  /** Whether the last packet's answers are awaited. */
  flying: boolean
  /** The answer to the last command. */
  last: Promise<Answer> | undefined
  /** Lets the gathered packet go. */
  waiting: (() => void) | undefined
  /** The server's time as of this turn's packet, once somebody has asked for it. */
  time: PacketTime | undefined
}

/** The server's time as of a packet. The driver gives answers in their order, so it is there before any that was asked for later. */
interface PacketTime {
  nowMs: number | undefined
  /** Why there is none. */
  failure: unknown
}

/** An answer, and the server's time in milliseconds just before. */
export type Timed = readonly [nowMs: number, answer: Answer]

/** See the file's comment. Begins to connect when it is made. */
export class Node {
  readonly #lanes: readonly Lane[]
  #next = 0

  constructor(address: Address, settings: NodeSettings, endpoint?: Endpoint) {
    this.#lanes = Array.from({ length: settings.connections }, () => {
      const client = makeClient(address, settings, endpoint === undefined ? undefined : () => endpoint)
      client.on("ready", () => {
        // A server that refuses them gets each with its first call, and says there what it minds.
        for (const text of settings.scripts) client.script("LOAD", text).catch(() => undefined)
      })
      // The driver goes on trying.
      client.connect().catch(() => undefined)
      return {
        client,
        trouble: new Trouble(client),
        corked: false,
        flying: false,
        last: undefined,
        waiting: undefined,
        time: undefined,
      }
    })
  }

  /** Whether commands would be sent now. */
  get isReady(): boolean {
    return this.#lanes.some(({ client }) => client.status === "ready")
  }

  /** How many connections are up. */
  get open(): number {
    return this.#lanes.filter(({ client }) => client.status === "ready").length
  }

  /** Sends a command. Raises what {@link refusal} says where no connection is up, and else what the driver raises. */
  send(command: string, args: readonly Word[]): Promise<Answer> {
    return this.#write(this.#lane(), command, args)
  }

  /** As {@link send}; also answers the server's time just before, for which all calls of one turn ask once. */
  timed(command: string, args: readonly Word[]): Promise<Timed> {
    const lane = this.#lane()
    const time = lane.time ?? this.#askTime(lane)
    return this.#write(lane, command, args).then((answer) => {
      if (time.nowMs === undefined) throw time.failure
      return [time.nowMs, answer]
    })
  }

  /** Sends a command to a server that is about to take over the keys. */
  async ask(command: string, args: readonly Word[]): Promise<Answer> {
    const lane = this.#lane()
    const [, answer] = await Promise.all([this.#write(lane, "ASKING", []), this.#write(lane, command, args)])
    return answer
  }

  /** Resolves once a connection is up, or after so many milliseconds. */
  async settled(ms: number): Promise<void> {
    if (this.isReady) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        for (const { client } of this.#lanes) client.off("ready", done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      for (const { client } of this.#lanes) client.on("ready", done)
    })
  }

  /** Why nothing can be sent: STORE_AUTH or STORE_UNAVAILABLE. */
  refusal(): Error {
    const [lane] = this.#lanes
    if (lane === undefined) throw new RangeError("a node without connections")
    return lane.trouble.toError()
  }

  /** Ends the connections; what is out is answered as lost. */
  close(): void {
    for (const { client } of this.#lanes) client.disconnect()
  }

  #lane(): Lane {
    const lanes = this.#lanes
    for (let tried = 0; tried < lanes.length; tried++) {
      const lane = lanes[this.#next++ % lanes.length]
      if (lane?.client.status === "ready" && lane.client.stream.writable) return lane
    }
    throw this.refusal()
  }

  #askTime(lane: Lane): PacketTime {
    const time: PacketTime = { nowMs: undefined, failure: undefined }
    this.#write(lane, "TIME", []).then(
      (answer) => {
        time.nowMs = milliseconds(answer)
      },
      (error: unknown) => {
        time.failure = error
      },
    )
    lane.time = time
    return time
  }

  #write(lane: Lane, name: string, args: readonly Word[]): Promise<Answer> {
    const { client } = lane
    const first = !lane.corked
    if (first) {
      lane.corked = true
      client.stream.cork()
    }
    const answer = client.sendCommand(new PackedCommand(name, args)) as Promise<Answer>
    lane.last = answer
    if (first) this.#gather(lane, client.stream)
    return answer
  }

  /** Lets the packet that has begun go: after this turn, or once the one before it is answered. */
  #gather(lane: Lane, stream: Redis["stream"]): void {
    const go = () => {
      lane.corked = false
      lane.time = undefined
      lane.flying = true
      stream.uncork()
      lane.last?.then(landed, landed)
    }
    const landed = () => {
      lane.flying = false
      lane.waiting?.()
    }
    lane.waiting = () => {
      lane.waiting = undefined
      setImmediate(go)
    }
    if (!lane.flying) lane.waiting()
  }
}

/** What TIME answers: seconds and microseconds. */
function milliseconds(answer: Answer): number {
  const [seconds, micros] = asList(answer)
  return asNumber(seconds) * 1_000 + Math.floor(asNumber(micros) / 1_000)
}
