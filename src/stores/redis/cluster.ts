/**
 * The nodes of a cluster and which of them has a key. The map is asked for at the start, now and then, whenever a connection is lost, and
 * when a node says that a slot has moved. Only what a node refused unread is sent to another one.
 */
import type { Address, Endpoint } from "./address.ts"
import { type Answer, asBytes, asList } from "./answers.ts"
import type { NodeSettings } from "./client.ts"
import { storeUnavailable } from "./errors.ts"
import { Node } from "./node.ts"
import type { Detour, Nodes } from "./nodes.ts"
import { SLOTS, slotOf } from "./slots.ts"

const REFRESH_MS = 5_000
/** Between two looks while not all slots have a node that answers. */
const REPAIR_MS = 100
const REPAIR_MAX_MS = 1_000
const CONNECT_MS = 2_000
/** How often whoever waits for all to be up looks. */
const LOOK_MS = 10

/** See the file's comment. */
export class Cluster implements Nodes {
  readonly #address: Address
  readonly #settings: NodeSettings
  /** By `host:port`. */
  readonly #nodes = new Map<string, Node>()
  readonly #slots: (string | undefined)[] = new Array<string | undefined>(SLOTS).fill(undefined)
  /** Every server that was ever named by the last map, replicas too: where to ask when the masters are gone. */
  #known: readonly Endpoint[]
  #refreshing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #failures = 0
  #rotation = 0
  #closed = false

  constructor(address: Address, settings: NodeSettings) {
    this.#address = address
    this.#settings = settings
    this.#known = address.endpoints
    this.refresh().catch(() => undefined)
  }

  get isReady(): boolean {
    return this.#all().some((node) => node.isReady)
  }

  get open(): number {
    return [...this.#nodes.values()].reduce((sum, node) => sum + node.open, 0)
  }

  pick(key: string | undefined): Node {
    const [any] = this.#all().filter((node) => node.isReady)
    const node = key === undefined ? any : this.#nodes.get(this.#slots[slotOf(key)] ?? "")
    if (node?.isReady) return node
    this.#plan(REPAIR_MS)
    throw node?.refusal() ?? [...this.#nodes.values()][0]?.refusal() ?? storeUnavailable()
  }

  masters(): readonly Node[] {
    const names = new Set(this.#slots)
    return [...names].map((name) => {
      const node = name === undefined ? undefined : this.#nodes.get(name)
      if (node?.isReady) return node
      this.#plan(REPAIR_MS)
      throw node?.refusal() ?? storeUnavailable()
    })
  }

  async detour(word: string, message: string, leftMs: number): Promise<Detour | undefined> {
    if (word === "CLUSTERDOWN") this.#plan(REPAIR_MS)
    if (word !== "MOVED" && word !== "ASK") return undefined
    const [, slot, place = ""] = message.split(" ")
    const at = parseEndpoint(place, this.#address.endpoints[0]?.host ?? "")
    if (at === undefined) return undefined
    const node = this.#node(at)
    if (word === "MOVED") {
      this.#slots[Number(slot)] = nameOf(at)
      this.#plan(0)
    }
    await node.settled(Math.min(leftMs, CONNECT_MS))
    return { node, asking: word === "ASK" }
  }

  /** The next server to try, whoever it is, for a connection that may be to any of them. */
  next(): Endpoint {
    const all = this.#known
    const found = all[this.#rotation++ % all.length]
    if (found === undefined) throw new RangeError("a cluster without nodes")
    return found
  }

  has({ host, port }: Endpoint): boolean {
    return this.#known.some((known) => known.host === host && known.port === port)
  }

  async settled(ms: number): Promise<void> {
    const until = Date.now() + ms
    while (!this.#isWhole() && Date.now() < until && !this.#closed) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    for (const node of this.#nodes.values()) node.close()
  }

  /** Asks for the map. */
  async refresh(): Promise<void> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined
      if (this.#isWhole()) this.#failures = 0
      else this.#failures++
      this.#plan(
        this.#isWhole() ? REFRESH_MS : Math.min(REPAIR_MS * 2 ** Math.min(this.#failures, 10), REPAIR_MAX_MS),
      )
    })
    await this.#refreshing
  }

  async #refresh(): Promise<void> {
    const ready = [...this.#nodes].filter(([, node]) => node.isReady).map(([name]) => name)
    const others = [...this.#known, ...this.#address.endpoints]
      .map(nameOf)
      .filter((name) => !ready.includes(name))
    for (const name of ready) {
      if (this.#closed || (await this.#learnFrom(name))) return
    }
    // Whoever of the others answers first is believed.
    const learning = [...new Set(others)].map(async (name) => {
      if (!(await this.#learnFrom(name))) throw storeUnavailable()
    })
    await Promise.any(learning).catch(() => undefined)
  }

  async #learnFrom(name: string): Promise<boolean> {
    const at = parseEndpoint(name, "")
    if (at === undefined) return false
    const node = this.#node(at)
    await node.settled(Math.min(this.#settings.timeoutMs, CONNECT_MS))
    if (!node.isReady) return false
    let late: NodeJS.Timeout | undefined
    try {
      const silence = new Promise<undefined>((resolve) => {
        late = setTimeout(resolve, CONNECT_MS, undefined)
      })
      const answer = await Promise.race([node.send("CLUSTER", ["SLOTS"]), silence])
      if (answer === undefined || asList(answer).length === 0) return false
      this.#adopt(asList(answer), at.host)
      return true
    } catch {
      // Another node is asked.
      return false
    } finally {
      clearTimeout(late)
    }
  }

  #adopt(ranges: readonly Answer[], self: string): void {
    if (this.#closed) return
    this.#slots.fill(undefined)
    const known: Endpoint[] = []
    const masters = new Set<string>()
    for (const range of ranges) {
      const [from, to, ...servers] = asList(range)
      const places = servers.map((server) => {
        const [host, port] = asList(server)
        const name = host === null || host === undefined ? "" : asBytes(host).toString("utf8")
        return { host: name === "" ? self : name, port: Number(port) }
      })
      const [master] = places
      if (master === undefined) continue
      known.push(...places)
      masters.add(nameOf(master))
      this.#node(master)
      this.#slots.fill(nameOf(master), Number(from), Number(to) + 1)
    }
    this.#known = known
    for (const [name, node] of this.#nodes) {
      if (masters.has(name)) continue
      node.close()
      this.#nodes.delete(name)
    }
  }

  #node(at: Endpoint): Node {
    const name = nameOf(at)
    let node = this.#nodes.get(name)
    if (node === undefined) {
      node = new Node(this.#address, this.#settings, at)
      if (this.#closed) node.close()
      this.#nodes.set(name, node)
    }
    return node
  }

  #all(): readonly Node[] {
    return [...this.#nodes.values()]
  }

  #isWhole(): boolean {
    let last: string | undefined
    return this.#slots.every((name) => {
      if (name === undefined) return false
      if (name === last) return true
      last = name
      return this.#nodes.get(name)?.isReady === true
    })
  }

  /** Looks at the map in so many milliseconds, or before. */
  #plan(ms: number): void {
    if (this.#closed || this.#refreshing !== undefined) return
    const at = Date.now() + ms
    if (this.#timer !== undefined && this.#plannedAt <= at) return
    clearTimeout(this.#timer)
    this.#plannedAt = at
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.refresh().catch(() => undefined)
    }, ms)
    this.#timer.unref()
  }

  #plannedAt = 0
}

function nameOf({ host, port }: Endpoint): string {
  return `${host}:${port}`
}

function parseEndpoint(name: string, self: string): Endpoint | undefined {
  const colon = name.lastIndexOf(":")
  const host = colon === 0 ? self : name.slice(0, colon)
  const port = Number(name.slice(colon + 1))
  return colon < 0 || host === "" || !Number.isInteger(port) ? undefined : { host, port }
}
