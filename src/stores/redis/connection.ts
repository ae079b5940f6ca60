/** What all calls share: commands with a deadline, sent to the server that has their keys, and an honest word about what failed. */
import { createHash } from "node:crypto"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type Address, parseAddress } from "./address.ts"
import { type Answer, type Argument, asList } from "./answers.ts"
import { Cluster } from "./cluster.ts"
import { deadlineExceeded, replyWord, storeUnavailable, toDomainError } from "./errors.ts"
import { CONNECTIONS } from "./node.ts"
import { type Nodes, Single } from "./nodes.ts"
import { Preformed, type Word } from "./packet.ts"
import { type Effect, isDetour, keyOf, late, type ScopedCall, WordsCall } from "./scoped-call.ts"
import type { Call } from "./wire.ts"

/** A Lua text and the name by which the server keeps it. */
export class Script {
  readonly text: string
  readonly #sha: string
  readonly #heads: Preformed[] = []

  constructor(text: string) {
    this.text = text
    this.#sha = createHash("sha1").update(text).digest("hex")
  }

  /** What stands before the keys, of which there are so many. */
  head(keys: number): Preformed {
    const known = this.#heads[keys]
    if (known !== undefined) return known
    const made = new Preformed([this.#sha, String(keys)])
    if (keys < MOST_HEADS) this.#heads[keys] = made
    return made
  }
}

/** Calls with more keys are rare, and differ. */
const MOST_HEADS = 16

/** How to reach the server. */
export interface ConnectionOptions {
  /** See ./address. */
  readonly url: string
  /** File with the password, read at each new connection; goes before the URL's own. */
  readonly passwordFile?: string | undefined
  /** How many connections to each server carry calls. */
  readonly connections?: number | undefined
  /** Stands for the server's clock, and for the machine's; only for tests. */
  readonly clock?: Clock | undefined
  /** The longest wait for an answer where no deadline is nearer, in milliseconds. */
  readonly timeoutMs?: number | undefined
}

/** The longest wait for an answer where nothing else is said. */
export const TIMEOUT_MS = 10_000

/** How often a command follows its keys to another server. */
const MAX_DETOURS = 5
/** How long a command waits for keys that are on their way one by one, and between two looks. */
const MOVING_MS = 2_000
const MOVING_LOOK_MS = 20

/** See the file's comment. */
export class Connection {
  readonly clock: Clock
  readonly address: Address
  readonly nodes: Nodes
  /** The time that scripts get: empty for the server's own. */
  readonly #manual: boolean
  readonly #timeoutMs: number
  readonly #scripts: string[] = []
  #waiting = 0

  constructor(options: ConnectionOptions) {
    const { url, passwordFile, timeoutMs = TIMEOUT_MS, connections = CONNECTIONS } = options
    this.address = parseAddress(url)
    const settings = { timeoutMs, passwordFile, connections, scripts: this.#scripts }
    this.nodes =
      this.address.kind === "cluster"
        ? new Cluster(this.address, settings)
        : new Single(this.address, settings)
    this.clock = options.clock ?? systemClock
    this.#manual = options.clock !== undefined
    this.#timeoutMs = timeoutMs
  }

  /** Whether commands would be sent now. */
  get isReady(): boolean {
    return this.nodes.isReady
  }

  /** How many commands wait for an answer. */
  get waiting(): number {
    return this.#waiting
  }

  /** Names a script, which servers are taught when they come up. */
  script(text: string): Script {
    this.#scripts.push(text)
    return new Script(text)
  }

  /** The time as scripts get it: empty for the server's own. */
  scriptTime(): string {
    return this.#manual ? String(this.clock.now()) : ""
  }

  /** Sends one command. Raises what ./errors makes of a failure; after the deadline the answer, should it come, is dropped. */
  send(scope: CallScope, effect: Effect, command: string, args: readonly Word[]): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const failed = (error: unknown, leftMs: number) => this.#refused(error, effect, command, args, leftMs)
      this.begin(scope, new WordsCall(this, effect, { resolve, reject }, command, args, failed))
    })
  }

  /** Sends the command of a call, which is told of a failure to do so, too. */
  begin(scope: CallScope, call: ScopedCall<unknown>): void {
    try {
      const leftMs = this.#left(scope)
      call.leftMs = leftMs
      call.untilMs = performance.now() + Math.min(leftMs, this.#timeoutMs)
      const node = this.nodes.pick(call.key)
      if (call.asksTime && !this.#manual) node.beginTimed(call)
      else node.begin(call)
    } catch (error) {
      call.refuse(error)
      return
    }
    this.#waiting++
  }

  /** A call has ended that was begun. */
  ended(): void {
    this.#waiting--
  }

  /** The server's time just before a call that asked for it was answered. */
  timeOf(call: Call): number {
    if (this.#manual) return this.clock.now()
    if (call.time?.nowMs === undefined) throw call.time?.failure
    return call.time.nowMs
  }

  /** Whether a call that has so much time left ends by its own deadline, if the server does not answer at all. */
  endsBefore(leftMs: number): boolean {
    return leftMs <= this.#timeoutMs
  }

  /** Runs a script that answers a list. */
  async run(
    scope: CallScope,
    effect: Effect,
    script: Script,
    keys: readonly string[],
    args: readonly Argument[],
  ): Promise<readonly Answer[]> {
    return asList(await this.runs(scope, effect, script, keys.length, [...keys, ...args]))
  }

  /** Runs a script, which the server gets in full only where it does not know it. `words` begin with so many keys. */
  runs(
    scope: CallScope,
    effect: Effect,
    script: Script,
    keys: number,
    words: readonly Word[],
  ): Promise<Answer> {
    const args = [script.head(keys), ...words]
    return new Promise((resolve, reject) => {
      const failed = async (error: unknown, leftMs: number) => {
        try {
          return await this.#refused(error, effect, "EVALSHA", args, leftMs)
        } catch (refusal) {
          // The server refused it unread, so it may be sent again.
          if (replyWord(refusal) !== "NOSCRIPT") throw refusal
          return await this.send(scope, effect, "EVAL", [
            new Preformed([script.text, String(keys)]),
            ...words,
          ])
        }
      }
      this.begin(scope, new WordsCall(this, effect, { resolve, reject }, "EVALSHA", args, failed))
    })
  }

  /** What comes of a command that was refused: the answer of the server that its keys have gone to, or a failure. */
  #refused(
    error: unknown,
    effect: Effect,
    command: string,
    args: readonly Word[],
    leftMs: number,
  ): Promise<Answer> {
    if (replyWord(error) === "NOSCRIPT") throw error
    if (!isDetour(error)) throw toDomainError(error, effect)
    return this.#follow(error as Error, effect, command, args, Math.min(leftMs, this.#timeoutMs))
  }

  /** Ends the connections; what is out is answered as lost. */
  close(): void {
    this.nodes.close()
  }

  /** How long the call still has. Raises DEADLINE_EXCEEDED. */
  #left(scope: CallScope): number {
    const leftMs = scope.deadlineMs - this.clock.now()
    if (leftMs > 0) return leftMs
    throw deadlineExceeded("the deadline passed before the cache was asked; nothing was done")
  }

  /** Goes where the keys are. Each server that says so has refused the command unread, so that it runs once. */
  async #follow(
    refused: Error,
    effect: Effect,
    command: string,
    args: readonly Word[],
    leftMs: number,
  ): Promise<Answer> {
    const end = Date.now() + leftMs
    const patience = Date.now() + Math.min(leftMs, MOVING_MS)
    let error = refused
    let detours = 0
    while (true) {
      const word = replyWord(error) ?? ""
      if (word === "NOSCRIPT") throw error
      if (!isDetour(error)) throw toDomainError(error, effect)
      const detour = await this.nodes.detour(word, error.message, end - Date.now())
      const moving = word === "TRYAGAIN" && Date.now() < patience
      if (moving) await new Promise((resolve) => setTimeout(resolve, MOVING_LOOK_MS))
      else if (detour === undefined || ++detours > MAX_DETOURS) throw storeUnavailable(error)
      if (moving) detours = 0
      if (Date.now() >= end) throw storeUnavailable(error)
      const node = detour?.node ?? this.nodes.pick(keyOf(command, args))
      if (!node.isReady) throw node.refusal()
      try {
        const sent = detour?.asking ? node.ask(command, args) : node.send(command, args)
        return await this.#before(sent, effect, end - Date.now())
      } catch (next) {
        if (!(next instanceof Error)) throw next
        error = next
      }
    }
  }

  /** The answer, or what its absence means once its time is over. */
  #before<T>(answer: Promise<T>, effect: Effect, leftMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(late(effect, leftMs <= this.#timeoutMs)),
        Math.min(leftMs, this.#timeoutMs),
      )
      answer.then(resolve, reject).finally(() => clearTimeout(timer))
    })
  }
}
