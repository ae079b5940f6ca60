/**
 * `npm run bench -- redis postgres cassandra milvus`: the daemon on an engine beside the engine's driver doing the same work from
 * one process, and an empty handler on the daemon's transport. All are there at the same time and measured in turn within each round.
 */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { formatTable } from "../../demo/latency.ts"
import { startDaemon } from "../../test/support/daemon.ts"
import { cases } from "../cases.ts"
import { type Load, type Result, send } from "../load.ts"
import { type Server, startFloor } from "../measure.ts"
import type { BareLoad } from "./bare.ts"
import { startDaprd } from "./daprd.ts"
import type { Engine, RunningEngine, Work } from "./engine.ts"
import { ADAPTER, BARE, DAEMON, DAPRD, FLOOR, type Measured, middle, type Round, type Way } from "./rounds.ts"
import { type Verdict, verdicts } from "./verdicts.ts"

/** How long and how often. */
export interface Effort {
  readonly rounds: number
  readonly durationMs: number
  /** Whether Dapr's sidecar stands beside. */
  readonly daprd: boolean
  /** The transport of the empty handler. */
  readonly floor: string
}

/** Of calls whose code has not been compiled yet nothing can be said. */
const WARM_CALLS = 10_000
const WARM_ROUNDS = 8
/** With so few calls a median says nothing. */
const LEAST_CALLS = 50

class Worker {
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async start(kind: string, url: string): Promise<Worker> {
    const child = fork(fileURLToPath(new URL("./bare-worker.ts", import.meta.url)), [kind, url])
    await Worker.#message(child)
    return new Worker(child)
  }

  static #message(child: ChildProcess): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => {
        child.off("message", told)
        reject(new Error(`the driver's process ended with ${code}`))
      }
      const told = (message: unknown) => {
        child.off("exit", ended)
        resolve(message)
      }
      child.once("message", told)
      child.once("exit", ended)
    })
  }

  async measure(load: BareLoad): Promise<Result> {
    this.#child.send(load)
    return (await Worker.#message(this.#child)) as Result
  }

  stop(): void {
    this.#child.kill()
  }
}

/** Those who do the work. */
interface Field {
  readonly floor: Server
  readonly bare: Worker
  readonly adapter: Worker | undefined
  readonly daemon: Server
  readonly daprd: Server | undefined
}

type Run = (durationMs: number, leastCalls: number) => Promise<Result>

/** All ways to do a work, each as a function of how much. */
function waysOf(
  { floor, bare, adapter, daemon, daprd }: Field,
  work: Work,
  inFlight: number,
): ReadonlyMap<Way, Run> {
  const [get] = cases()
  if (get === undefined) throw new RangeError("no cases")
  const rpc =
    ({ address, pid }: Server, { path, bodies }: Pick<Load, "path" | "bodies">): Run =>
    (durationMs, leastCalls) =>
      send(address, pid, { path, bodies, inFlight, durationMs, leastCalls })
  const by =
    (worker: Worker, call: string): Run =>
    (durationMs, leastCalls) =>
      worker.measure({ call, inFlight, durationMs, leastCalls })
  const ways = new Map([
    [FLOOR, rpc(floor, get)],
    [BARE, by(bare, work.bare)],
  ])
  for (const [name, call] of Object.entries(work.less ?? {})) ways.set(name, by(bare, call))
  if (adapter !== undefined) ways.set(ADAPTER, by(adapter, work.bare))
  if (daprd !== undefined && work.daprd !== undefined) ways.set(DAPRD, rpc(daprd, work.daprd))
  return ways.set(DAEMON, rpc(daemon, work))
}

async function measure(field: Field, work: Work, inFlight: number, effort: Effort): Promise<Measured> {
  const ways = waysOf(field, work, inFlight)
  for (const run of ways.values()) {
    const until = performance.now() + WARM_ROUNDS * effort.durationMs
    let calls = 0
    while (calls < WARM_CALLS && performance.now() < until) calls += (await run(effort.durationMs, 1)).calls
  }
  const rounds: Round[] = []
  for (let round = 0; round < effort.rounds; round++) {
    const entries: [Way, Result][] = []
    for (const [way, run] of ways) entries.push([way, await run(effort.durationMs, LEAST_CALLS)])
    rounds.push(Object.fromEntries(entries))
  }
  return { work, inFlight, rounds }
}

const HEAD = [
  "call",
  "by",
  "in flight",
  "calls/s",
  "to bare",
  "p50 us",
  "p50 to bare",
  "CPU us",
  "to empty + bare",
]

function rowsOf({ work, inFlight, rounds }: Measured): string[][] {
  return Object.keys(rounds[0] ?? {}).map((way) => [
    work.name,
    way,
    String(inFlight),
    middle(rounds, (of) => of(way).perSecond).toFixed(0),
    way === FLOOR ? "-" : middle(rounds, (of) => of(way).perSecond / of(BARE).perSecond).toFixed(2),
    middle(rounds, (of) => of(way).p50).toFixed(0),
    way === FLOOR ? "-" : middle(rounds, (of) => of(way).p50 / of(BARE).p50).toFixed(2),
    middle(rounds, (of) => of(way).cpu).toFixed(1),
    way === FLOOR ? "-" : middle(rounds, (of) => of(way).cpu / (of(FLOOR).cpu + of(BARE).cpu)).toFixed(2),
  ])
}

async function measureAll(
  engine: Engine,
  server: RunningEngine,
  effort: Effort,
  only: string,
): Promise<readonly Measured[]> {
  const floor = await startFloor(effort.floor)
  const ends: (() => unknown)[] = [() => floor.process.kill()]
  try {
    const own = await startDaemon({ env: server.env })
    ends.push(() => own.stop())
    const worker = async (kind: string) => {
      const started = await Worker.start(kind, server.url)
      ends.push(() => started.stop())
      return started
    }
    const bare = await worker(engine.bare)
    const adapter = engine.adapter === undefined ? undefined : await worker(engine.adapter)
    const isBeside = effort.daprd && server.works.some((work) => work.daprd !== undefined)
    const daprd = isBeside ? await startDaprd(server.url) : undefined
    if (daprd !== undefined) ends.push(() => daprd.stop())
    const channel = own.channel()
    ends.push(() => channel.close())
    await server.prepare(channel)
    const daemon = { address: own.address, pid: own.process.pid ?? 0 }
    const field = { floor, bare, adapter, daemon, daprd }
    const measured: Measured[] = []
    for (const work of server.works.filter(({ name }) => name.includes(only))) {
      for (const inFlight of work.inFlight) {
        measured.push(await measure(field, work, inFlight, effort))
        console.error(`  ${engine.name}: ${work.name}, ${inFlight} in flight`)
      }
    }
    return measured
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

/** Measures one engine and prints; answers which targets were met. */
export async function compare(engine: Engine, effort: Effort, only: string): Promise<readonly Verdict[]> {
  const server = await engine.start()
  try {
    const measured = await measureAll(engine, server, effort, only)
    console.log(`\n${engine.name}\n`)
    console.log(formatTable([HEAD, ...measured.flatMap(rowsOf)]))
    const told = measured.flatMap(verdicts)
    console.log()
    for (const { met, value, text } of told) {
      console.log(`${met ? "met   " : "missed"}  ${value.toFixed(2).padStart(7)}  ${text}`)
    }
    return told
  } finally {
    await server.stop()
  }
}
