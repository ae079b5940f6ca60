/** Commands with a deadline, and an honest word about those that failed. */
import type { DomainError } from "../../domain/kernel/errors.ts"
import type { Answer } from "./answers.ts"
import type { Connection } from "./connection.ts"
import { deadlineExceeded, outcomeUnknown, replyWord, storeUnavailable, toDomainError } from "./errors.ts"
import { type Packet, Preformed, type Word } from "./packet.ts"
import { Call } from "./wire.ts"

/** Whether a command can change anything. */
export type Effect = "read" | "write"

/** A call that ends by its scope's deadline at the latest. */
export abstract class ScopedCall<T> extends Call {
  readonly connection: Connection
  readonly #effect: Effect
  readonly #promise: Settle<T>
  /** How long it had when it began. */
  leftMs = 0

  constructor(connection: Connection, effect: Effect, promise: Settle<T>) {
    super()
    this.connection = connection
    this.#effect = effect
    this.#promise = promise
  }

  /** The key that says to which server it goes. */
  abstract get key(): string | undefined
  /** Whether it needs the server's time. */
  abstract get asksTime(): boolean
  /** What comes of an answer. */
  abstract read(answer: Answer): T | Promise<T>
  /** What comes of a refusal, or of a connection that ended. */
  abstract again(error: unknown): T | Promise<T>

  answered(answer: Answer): void {
    this.connection.ended()
    try {
      this.#promise.resolve(this.read(answer))
    } catch (error) {
      this.#promise.reject(error)
    }
  }

  failed(error: unknown): void {
    this.connection.ended()
    try {
      this.#promise.resolve(this.again(error))
    } catch (failure) {
      this.#promise.reject(failure)
    }
  }

  late(): void {
    this.connection.ended()
    this.#promise.reject(late(this.#effect, this.connection.endsBefore(this.leftMs)))
  }

  /** It was never sent. */
  refuse(error: unknown): void {
    this.isOut = false
    this.#promise.reject(toDomainError(error, this.#effect))
  }
}

/** The two ends of a promise. */
export interface Settle<T> {
  resolve(value: T | Promise<T>): void
  reject(error: unknown): void
}

/** Any command. */
export class WordsCall extends ScopedCall<Answer> {
  readonly asksTime = false
  readonly #command: string
  readonly #args: readonly Word[]
  readonly #failed: (error: unknown, leftMs: number) => Promise<Answer>

  constructor(
    connection: Connection,
    effect: Effect,
    promise: Settle<Answer>,
    command: string,
    args: readonly Word[],
    failed: (error: unknown, leftMs: number) => Promise<Answer>,
  ) {
    super(connection, effect, promise)
    this.#command = command
    this.#args = args
    this.#failed = failed
  }

  get key(): string | undefined {
    return keyOf(this.#command, this.#args)
  }

  write(packet: Packet): void {
    packet.command(this.#command, this.#args)
  }

  read(answer: Answer): Answer {
    return answer
  }

  again(error: unknown): Promise<Answer> {
    return this.#failed(error, this.leftMs)
  }
}

/** What a server says that has no such key now, and has not looked at the command. */
export function isDetour(error: unknown): boolean {
  const word = replyWord(error)
  return word !== undefined && DETOURS.has(word)
}

const DETOURS: ReadonlySet<string> = new Set(["MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"])
const KEYLESS: ReadonlySet<string> = new Set(["PING"])

/** The key that says which server a command is for. A script's comes after the head, which is one word here. */
export function keyOf(command: string, args: readonly Word[]): string | undefined {
  if (KEYLESS.has(command)) return undefined
  const word = args[command.startsWith("EVAL") ? 1 : 0]
  return word instanceof Preformed ? word.first : String(word)
}

/** What a missing answer means: at the call's deadline, or because the server does not answer at all. */
export function late(effect: Effect, atDeadline: boolean): DomainError {
  if (effect === "write") return outcomeUnknown()
  return atDeadline ? deadlineExceeded("the deadline passed before the cache answered") : storeUnavailable()
}
