/** The servers behind an address, as a connection sees them. */
import type { Address, Endpoint } from "./address.ts"
import type { NodeSettings } from "./client.ts"
import { Node } from "./node.ts"

/** Where a command goes that a server refused unread because another one has its keys. */
export interface Detour {
  readonly node: Node
  /** Only this once: the keys are on their way. */
  readonly asking: boolean
}

/** See the file's comment. */
export interface Nodes {
  /** Whether any server would be sent commands now. */
  readonly isReady: boolean
  /** How many connections are up. */
  readonly open: number
  /** The server that has a key, or any. Raises STORE_UNAVAILABLE or STORE_AUTH. */
  pick(key: string | undefined): Node
  /** All servers that have keys. Raises STORE_UNAVAILABLE or STORE_AUTH where one of them is away. */
  masters(): readonly Node[]
  /** What to do about a refusal by its first word; undefined: tell the caller. */
  detour(word: string, message: string, leftMs: number): Promise<Detour | undefined>
  /** Resolves once all is up, or after so many milliseconds. */
  settled(ms: number): Promise<void>
  /** The next server to try for a connection that may be to any of them. */
  next(): Endpoint
  /** Whether the server is one of these. */
  has(endpoint: Endpoint): boolean
  close(): void
}

/** One server, or the one that sentinels name. */
export class Single implements Nodes {
  readonly #first: Endpoint
  readonly #node: Node

  constructor(address: Address, settings: NodeSettings) {
    const [first] = address.endpoints
    if (first === undefined) throw new RangeError("an address without servers")
    this.#first = first
    this.#node = new Node(address, settings)
  }

  get isReady(): boolean {
    return this.#node.isReady
  }

  get open(): number {
    return this.#node.open
  }

  pick(): Node {
    return this.#node
  }

  masters(): readonly Node[] {
    return [this.#node]
  }

  async detour(): Promise<undefined> {
    return undefined
  }

  async settled(ms: number): Promise<void> {
    await this.#node.settled(ms)
  }

  next(): Endpoint {
    return this.#first
  }

  has(): boolean {
    return true
  }

  close(): void {
    this.#node.close()
  }
}
