/** Reads values as they are stored, without a script. What only a script can tell, it is asked for: tags, and keys that moved to another server. */
import type { CacheEntry, Namespace } from "../../domain/cache/model.ts"
import { wrongType } from "../../domain/cache/namespaces.ts"
import type { GetOperation, Operation, Outcome, ResultOf } from "../../domain/cache/operations.ts"
import { limitExceeded } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type Answer, asBytes, asList } from "./answers.ts"
import type { Connection } from "./connection.ts"
import { readEntry } from "./entries.ts"
import { toDomainError } from "./errors.ts"
import { type Packet, Preformed } from "./packet.ts"
import { isDetour, ScopedCall, type Settle } from "./scoped-call.ts"
import { ANSWER_BYTES, changesByReading, type SpaceCalls } from "./space-calls.ts"
import { viewValue } from "./values.ts"

type Entries = readonly (CacheEntry | undefined)[]

/** See the file's comment. */
export class PlainReads {
  readonly #calls: SpaceCalls

  constructor(calls: SpaceCalls) {
    this.#calls = calls
  }

  /** The value of a key. */
  one(scope: CallScope, namespace: Namespace, key: string): Promise<CacheEntry | undefined> {
    if (changesByReading(namespace)) return this.#byScript(scope, namespace, [key]).then(firstOf)
    const { connection } = this.#calls
    const entries = this.#entries(scope, namespace, key)
    return new Promise((resolve, reject) => {
      const otherwise = () => this.#byScript(scope, namespace, [key]).then(firstOf)
      connection.begin(scope, new ReadOne(connection, { resolve, reject }, entries, key, otherwise))
    })
  }

  /** The values of keys of one part. */
  many(scope: CallScope, namespace: Namespace, keys: readonly string[]): Promise<Entries> {
    if (changesByReading(namespace)) return this.#byScript(scope, namespace, keys)
    const { connection } = this.#calls
    const entries = this.#entries(scope, namespace, keys[0] ?? "")
    return new Promise((resolve, reject) => {
      const otherwise = () => this.#byScript(scope, namespace, keys)
      connection.begin(scope, new ReadMany(connection, { resolve, reject }, entries, keys, otherwise))
    })
  }

  async #byScript(scope: CallScope, namespace: Namespace, keys: readonly string[]): Promise<Entries> {
    const outcomes = await this.#calls.values(scope, namespace, keys)
    return outcomes.map((outcome) => resultOf<GetOperation>(outcome))
  }

  #entries({ tenant }: CallScope, namespace: Namespace, key: string): Preformed {
    const { keys } = this.#calls
    return keys.spaceKeys(tenant, namespace, keys.partition(namespace, key)).entries
  }
}

/** What an operation came to. Raises its failure. */
export function resultOf<O extends Operation>(outcome: Outcome<O> | undefined): ResultOf<O> {
  if (outcome?.ok === true) return outcome.result
  throw outcome?.error ?? new RangeError("an operation without an outcome")
}

function firstOf(entries: Entries): CacheEntry | undefined {
  return entries[0]
}

const HGET = new Preformed(["HGET"])
const HMGET = new Preformed(["HMGET"])

/** What both kinds of reading share. */
abstract class Read<T> extends ScopedCall<T> {
  readonly asksTime = true
  protected readonly entries: Preformed
  protected readonly otherwise: () => Promise<T>

  constructor(connection: Connection, promise: Settle<T>, entries: Preformed, otherwise: () => Promise<T>) {
    super(connection, "read", promise)
    this.entries = entries
    this.otherwise = otherwise
  }

  get key(): string {
    return this.entries.first
  }

  again(error: unknown): Promise<T> {
    if (isDetour(error)) return this.otherwise()
    throw toDomainError(error, "read")
  }
}

class ReadOne extends Read<CacheEntry | undefined> {
  readonly #key: string

  constructor(
    connection: Connection,
    promise: Settle<CacheEntry | undefined>,
    entries: Preformed,
    key: string,
    otherwise: () => Promise<CacheEntry | undefined>,
  ) {
    super(connection, promise, entries, otherwise)
    this.#key = key
  }

  write(packet: Packet): void {
    packet.begin(3)
    packet.word(HGET)
    packet.word(this.entries)
    packet.word(this.#key)
  }

  read(answer: Answer): CacheEntry | undefined | Promise<CacheEntry | undefined> {
    if (answer === null) return undefined
    const reading = new Reading(this.connection.timeOf(this))
    return reading.read(asBytes(answer), this.#key) ? reading.entry : this.otherwise()
  }
}

class ReadMany extends Read<Entries> {
  readonly #keys: readonly string[]

  constructor(
    connection: Connection,
    promise: Settle<Entries>,
    entries: Preformed,
    keys: readonly string[],
    otherwise: () => Promise<Entries>,
  ) {
    super(connection, promise, entries, otherwise)
    this.#keys = keys
  }

  write(packet: Packet): void {
    packet.begin(2 + this.#keys.length)
    packet.word(HMGET)
    packet.word(this.entries)
    for (const key of this.#keys) packet.word(key)
  }

  read(answer: Answer): Entries | Promise<Entries> {
    const stored = asList(answer)
    const reading = new Reading(this.connection.timeOf(this))
    const found: (CacheEntry | undefined)[] = []
    for (let index = 0; index < stored.length; index++) {
      const raw = stored[index]
      if (raw === null) found.push(undefined)
      else if (reading.read(asBytes(raw), this.#keys[index] ?? "")) found.push(reading.entry)
      else return this.otherwise()
    }
    return found
  }
}

const NO_TAGS: readonly string[] = []

/** Reads the entries of one answer. */
class Reading {
  /** The last one; undefined where it has expired. */
  entry: CacheEntry | undefined
  readonly #nowMs: number
  #bytes = 0

  constructor(nowMs: number) {
    this.#nowMs = nowMs
  }

  /** Reads one; false where only a script can tell whether it lives. Raises WRONG_TYPE, or LIMIT_EXCEEDED where there are too many. */
  read(raw: Buffer, key: string): boolean {
    const { kind, value, revision, expires, bytes, isTagged } = readEntry(raw)
    if (isTagged) return false
    this.entry = undefined
    if (expires <= this.#nowMs) return true
    if (kind !== "value") throw wrongType("cache key", key, kind, "value")
    this.#bytes += bytes
    if (this.#bytes > ANSWER_BYTES) throw limitExceeded("answer.bytes", this.#bytes, ANSWER_BYTES)
    const { content, contentType } = viewValue(value)
    this.entry = { content, contentType, revision, expireTimeMs: expires, tags: NO_TAGS }
    return true
  }
}
