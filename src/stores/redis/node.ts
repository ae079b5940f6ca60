/** One server, by one or several connections: see ./wire for what passes over them. */
import type { Redis } from "ioredis"
import type { Address, Endpoint } from "./address.ts"
import type { Answer } from "./answers.ts"
import { leavesReplica, makeClient, type NodeSettings, Trouble } from "./client.ts"
import type { Packet, Word } from "./packet.ts"
import { Call, Wire } from "./wire.ts"

/** How many connections a node has unless something else is said: one keeps a server's thread busy. */
export const CONNECTIONS = 1

interface Lane {
  readonly client: Redis
  readonly trouble: Trouble
  /** Of the connection that was there last. */
  wire: Wire | undefined
}

/** See the file's comment. Begins to connect when it is made. */
export class Node {
  readonly #lanes: readonly Lane[]
  #next = 0

  constructor(address: Address, settings: NodeSettings, endpoint?: Endpoint) {
    this.#lanes = Array.from({ length: settings.connections }, () => {
      const client = makeClient(address, settings, endpoint === undefined ? undefined : () => endpoint)
      const lane: Lane = { client, trouble: new Trouble(client), wire: undefined }
      const isStale = address.kind === "cluster" ? undefined : leavesReplica()
      client.on("ready", () => {
        const wire = new Wire(client.stream, 2 * settings.timeoutMs, {
          refused: (error) => {
            if (isStale?.(error)) client.disconnect(true)
          },
        })
        lane.wire = wire
        // A server that refuses them gets each with its first call, and says there what it minds.
        for (const text of settings.scripts) sent(wire, "SCRIPT", ["LOAD", text]).catch(() => undefined)
      })
      // The driver goes on trying.
      client.connect().catch(() => undefined)
      return lane
    })
  }

  /** Whether commands would be sent now. */
  get isReady(): boolean {
    return this.#lanes.some(isOpen)
  }

  /** How many connections are up. */
  get open(): number {
    return this.#lanes.filter(isOpen).length
  }

  /** Sends a call's command. Raises what {@link refusal} says where no connection is up. */
  begin(call: Call): void {
    this.#wire().begin(call)
  }

  /** As {@link begin}, for a call that asks for the server's time. */
  beginTimed(call: Call): void {
    this.#wire().beginTimed(call)
  }

  /** Sends a command and waits for as long as it takes. Raises as {@link begin} does, the server's refusal, or how the connection ended. */
  send(command: string, args: readonly Word[]): Promise<Answer> {
    return sent(this.#wire(), command, args)
  }

  /** Sends a command to a server that is about to take over the keys. */
  async ask(command: string, args: readonly Word[]): Promise<Answer> {
    const wire = this.#wire()
    const [, answer] = await Promise.all([sent(wire, "ASKING", []), sent(wire, command, args)])
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

  #wire(): Wire {
    const lanes = this.#lanes
    for (let tried = 0; tried < lanes.length; tried++) {
      const wire = lanes[this.#next++ % lanes.length]?.wire
      if (wire?.isOpen === true) return wire
    }
    throw this.refusal()
  }
}

function isOpen({ wire }: Lane): boolean {
  return wire?.isOpen === true
}

/** A command of which a promise is wanted. */
class Promised extends Call {
  readonly #name: string
  readonly #args: readonly Word[]
  readonly answered: (answer: Answer) => void
  readonly failed: (error: unknown) => void

  constructor(
    name: string,
    args: readonly Word[],
    resolve: (answer: Answer) => void,
    reject: (error: unknown) => void,
  ) {
    super()
    this.#name = name
    this.#args = args
    this.answered = resolve
    this.failed = reject
  }

  write(packet: Packet): void {
    packet.command(this.#name, this.#args)
  }

  /** Its caller keeps the time. */
  late(): void {
    throw new RangeError("a call without a deadline is never late")
  }
}

function sent(wire: Wire, name: string, args: readonly Word[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    wire.begin(new Promised(name, args, resolve, reject))
  })
}
