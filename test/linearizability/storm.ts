/** Clients on two daemons while the network and the daemons fail, by one seed. */
import { randomUUID } from "node:crypto"
import type { Arena, Seat } from "./arena.ts"
import type { Client, Kind } from "./clients.ts"
import { History } from "./history.ts"

/** How long clients stay with one object; then they go on with a fresh one, so that histories stay short. */
const OBJECT_MS = 2_500
/** Operations of unknown outcome after which they go on at once. */
const MOST_UNKNOWN = 6
const CALL_MS = 4_000
/** After a call that had no answer: nothing is learned by asking at once again. */
const PAUSE_MS = 20
const FAULT_EVERY_MS = 600
/** Longer than a lease. */
const FROZEN_MS = 700

/** How a storm goes. */
export interface StormOptions {
  readonly kinds: readonly Kind[]
  readonly seconds: number
  readonly clientsPerKind: number
  readonly seed: number
}

/** What came of it. */
export interface Storm {
  readonly history: History
  /** How often each fault was there. */
  readonly faults: ReadonlyMap<string, number>
}

/** Numbers from 0 to 1 that a seed decides. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** The object that all clients of a kind use at the moment. */
class Current {
  readonly kind: Kind
  readonly #arena: Arena
  readonly #history: History
  readonly #tag: string
  #number = 0
  #since = 0
  #key: Promise<string> | undefined
  name = ""

  constructor(kind: Kind, arena: Arena, history: History, tag: string) {
    this.kind = kind
    this.#arena = arena
    this.#history = history
    this.#tag = tag
  }

  key(): Promise<string> {
    const old =
      performance.now() - this.#since > OBJECT_MS || this.#history.unknowns(this.name) > MOST_UNKNOWN
    if (this.#key === undefined || old) {
      this.#since = performance.now()
      this.name = `${this.kind.name}-${this.#tag}-${++this.#number}`
      this.#key = this.#prepared(this.name)
    }
    return this.#key
  }

  async #prepared(key: string): Promise<string> {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.kind.prepare?.(this.#arena.seat(attempt % 2 === 0 ? 0 : 0.99)?.channel as never, key)
        this.#since = performance.now()
        return key
      } catch (error) {
        if (attempt > 200) throw error
        await pause(100)
      }
    }
  }
}

async function live(
  arena: Arena,
  history: History,
  current: Current,
  number: number,
  random: () => number,
  isOver: () => boolean,
): Promise<void> {
  let key = ""
  let client: Client | undefined
  while (!isOver()) {
    const now = await current.key()
    if (client === undefined || now !== key) {
      key = now
      client = current.kind.client(key, random, `c${number}`)
    }
    const step = client.next()
    const again = random() < 0.5
    const requestId = again ? randomUUID() : ""
    const attempt = async () => {
      for (;;) {
        const seat = arena.seat(random())
        if (seat !== undefined) return step.call(seat.channel, requestId, { timeoutMs: CALL_MS })
        await pause(PAUSE_MS)
      }
    }
    const told = await history.note(
      { kind: current.kind.name, key, client: number },
      step.asked,
      attempt,
      again,
    )
    if (told === undefined) await pause(PAUSE_MS)
    else step.learn?.(told)
  }
}

/** What can go wrong, by name. Each resolves when it is over. */
function faultsOf(
  arena: Arena,
  marks: () => readonly string[],
): Readonly<Record<string, (seat: Seat, dice: number) => Promise<void>>> {
  const ways = ["sql", "cache", "events"] as const
  const way = (seat: Seat, dice: number) => seat.network[ways[Math.floor(dice * ways.length)] ?? "sql"]
  const lose = (how: "reset" | "silence") => async (seat: Seat, dice: number) => {
    const all = marks()
    const mark = all[Math.floor(dice * all.length)] ?? ""
    for (const proxy of Object.values(seat.network)) proxy.lose(mark, how, 2)
    await pause(FROZEN_MS)
    for (const proxy of Object.values(seat.network)) proxy.loseNone()
  }
  return {
    "lost answer, reset": lose("reset"),
    "lost answer, silence": lose("silence"),
    "connections cut": async (seat, dice) => way(seat, dice).cut(),
    "network held": async (seat, dice) => {
      const proxy = way(seat, dice)
      proxy.hold()
      await pause(FROZEN_MS)
      proxy.release()
    },
    "daemon frozen": async (seat) => {
      const { process: child } = seat.daemon
      child.kill("SIGSTOP")
      await pause(FROZEN_MS)
      child.kill("SIGCONT")
    },
    "daemon killed": (seat) => arena.kill(seat),
  }
}

/** Runs clients and faults for a while. */
export async function storm(arena: Arena, options: StormOptions): Promise<Storm> {
  const history = new History()
  const random = randomFrom(options.seed)
  const tag = randomUUID().slice(0, 8)
  const currents = options.kinds.map((kind) => new Current(kind, arena, history, tag))
  const end = performance.now() + options.seconds * 1_000
  const isOver = () => performance.now() > end
  const clients = currents.flatMap((current, kind) =>
    Array.from({ length: options.clientsPerKind }, (_, index) => {
      const number = kind * options.clientsPerKind + index
      return live(arena, history, current, number, randomFrom(options.seed + number + 1), isOver)
    }),
  )
  const faults = new Map<string, number>()
  const chaos = async () => {
    const kinds = Object.entries(faultsOf(arena, () => currents.map(({ name }) => name)))
    // One of each first, then whatever comes.
    for (let round = 0; !isOver(); round++) {
      await pause(FAULT_EVERY_MS)
      const [name, fault] = kinds[round < kinds.length ? round : Math.floor(random() * kinds.length)] ?? []
      const seat = arena.seats[Math.floor(random() * arena.seats.length)]
      if (name === undefined || fault === undefined || seat === undefined) continue
      faults.set(name, (faults.get(name) ?? 0) + 1)
      await fault(seat, random())
    }
  }
  await Promise.all([...clients, chaos()])
  return { history, faults }
}
