/**
 * `npm run bench [-- --json FILE] [--rounds N] [--ms N] [--only TEXT]`: the daemon on its embedded engines against an empty handler on the
 * same transport. Names of engines (`redis`, `postgres`, `cassandra`, `milvus`, or `all`) compare as ./engines/compare says, `--daprd` with
 * Dapr's sidecar too; `--floor grpc-js` puts the empty handler on the other transport. All live at the same time and are measured in
 * turn, so that a busy machine slows all; figures are medians over rounds, ratios are medians of each round's own ratio.
 */
import { writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import { formatTable } from "../demo/latency.ts"
import { startDaemon } from "../test/support/daemon.ts"
import { appenders } from "./appenders.ts"
import { APPEND, appendBodies, BATCH, cases, prepare } from "./cases.ts"
import { compareAll, ENGINES } from "./engines/index.ts"
import { type Load, type Result, residentMiB, send } from "./load.ts"
import { FLOORS, median, type Server, startFloor } from "./measure.ts"

const { values: flags, positionals } = parseArgs({
  options: {
    json: { type: "string" },
    rounds: { type: "string", default: "3" },
    ms: { type: "string", default: "1500" },
    only: { type: "string", default: "" },
    daprd: { type: "boolean", default: false },
    floor: { type: "string", default: FLOORS[0] ?? "" },
  },
  allowPositionals: true,
})
const rounds = Number(flags.rounds)
const durationMs = Number(flags.ms)
if (!Number.isInteger(rounds) || rounds < 1 || !Number.isFinite(durationMs) || durationMs < 50) {
  console.error("--rounds takes a whole number from 1, --ms a number from 50")
  process.exit(2)
}

if (!FLOORS.includes(flags.floor)) {
  console.error(`--floor takes one of ${FLOORS.join(", ")}`)
  process.exit(2)
}

interface Row {
  name: string
  items: number
  inFlight: number
  perSecond: number
  p50: number
  p99: number
  cpu: number
  /** Items per second over the floor's calls per second in the same round. */
  ratio: number
}

function summary(
  name: string,
  items: number,
  inFlight: number,
  results: readonly Result[],
  floor: readonly Result[],
): Row {
  const of = (pick: (result: Result) => number) => median(results.map(pick))
  return {
    name,
    items,
    inFlight,
    perSecond: of((result) => result.perSecond),
    p50: of((result) => result.p50),
    p99: of((result) => result.p99),
    cpu: of((result) => result.cpu),
    ratio: median(
      results.map((result, round) => (result.perSecond * items) / (floor[round]?.perSecond ?? Number.NaN)),
    ),
  }
}

/** Measures one call on a server and the floor, in turn, for all rounds. */
async function measure(
  server: Server,
  floorServer: Server,
  name: string,
  items: number,
  load: Load,
  floorLoad: Load,
): Promise<Row> {
  const results: Result[] = []
  const floor: Result[] = []
  for (let round = 0; round < rounds; round++) {
    floor.push(await send(floorServer.address, floorServer.pid, floorLoad))
    results.push(await send(server.address, server.pid, load))
  }
  const row = summary(name, items, load.inFlight, results, floor)
  console.error(`  ${name}, ${load.inFlight} in flight: ${row.perSecond.toFixed(0)}/s`)
  return row
}

function tableOf(rows: readonly Row[]): string {
  return formatTable([
    [
      "call",
      "in flight",
      "calls/s",
      "items/s",
      "p50 us",
      "p99 us",
      "CPU us/call",
      "items/s to empty calls/s",
    ],
    ...rows.map((row) => [
      row.name,
      String(row.inFlight),
      row.perSecond.toFixed(0),
      (row.perSecond * row.items).toFixed(0),
      row.p50.toFixed(0),
      row.p99.toFixed(0),
      Number.isNaN(row.cpu) ? "-" : row.cpu.toFixed(1),
      row.ratio.toFixed(3),
    ]),
  ])
}

function targetLines(
  rows: readonly Row[],
  store: { readonly ratio: number | undefined },
): { text: string; value: number; target: number; met: boolean }[] {
  const find = (name: string, inFlight: number) =>
    rows.find((row) => row.name === name && row.inFlight === inFlight)
  const get = find("CacheService.Get", 64)
  const lines: { text: string; value: number; target: number; met: boolean }[] = []
  const add = (text: string, value: number | undefined, target: number, atLeast: boolean) => {
    if (value === undefined || Number.isNaN(value)) return
    lines.push({ text, value, target, met: atLeast ? value >= target : value < target })
  }
  add("CacheService.Get over the empty handler, 64 in flight (at least)", get?.ratio, 0.7, true)
  for (const kind of ["BatchGet", "Execute"]) {
    const batch = find(`CacheService.${kind} x ${BATCH}`, 64)
    if (batch && get) {
      add(
        `${kind} of ${BATCH} costs this many unary Gets, by throughput (less than)`,
        get.perSecond / batch.perSecond,
        5,
        false,
      )
      add(
        `${kind} of ${BATCH} costs this many unary Gets, by CPU of the daemon (less than)`,
        batch.cpu / get.cpu,
        5,
        false,
      )
    }
  }
  const alone = find("EventService.AppendEvents", 1)
  const together = find("EventService.AppendEvents", 64)
  add("64 appenders over one, on the embedded event store (at least)", store.ratio, 10, true)
  if (alone && together) {
    const text = "64 appenders over one, through gRPC, the load generator on the same cores (at least)"
    add(text, together.perSecond / alone.perSecond, 10, true)
  }
  return lines
}

async function main(): Promise<void> {
  const floor = await startFloor(flags.floor)
  const daemon = await startDaemon()
  const channel = daemon.channel()
  const server: Server = { address: daemon.address, pid: daemon.process.pid ?? 0 }
  try {
    await prepare(channel)
    const all = cases().filter((each) => each.name.includes(flags.only))
    const get = cases()[0]
    if (!get) throw new Error("no cases")
    const load = (from: { path: string; bodies: readonly Uint8Array[] }, inFlight: number): Load => ({
      path: from.path,
      bodies: from.bodies,
      inFlight,
      durationMs,
    })
    for (const each of [floor, server]) await send(each.address, each.pid, load(get, 64))
    const rows: Row[] = []
    for (const inFlight of [64, 1]) {
      rows.push(await measure(floor, floor, "empty handler", 1, load(get, inFlight), load(get, inFlight)))
    }
    for (const each of all) {
      for (const inFlight of [64, 1]) {
        rows.push(
          await measure(server, floor, each.name, each.items, load(each, inFlight), load(get, inFlight)),
        )
      }
    }
    if ("EventService.AppendEvents".includes(flags.only)) {
      for (const [streams, events] of [
        [64, 1],
        [1, 1],
        [64, BATCH],
        [1, BATCH],
      ] as const) {
        const name = events === 1 ? "EventService.AppendEvents" : `EventService.AppendEvents x ${events}`
        const append = { path: APPEND, bodies: appendBodies(streams, events) }
        rows.push(await measure(server, floor, name, events, load(append, streams), load(get, streams)))
      }
    }
    let ratio: number | undefined
    if ("EventService.AppendEvents".includes(flags.only)) {
      const measured = await appenders(64, rounds, durationMs)
      const alone = median(measured.map((round) => round.alone))
      const together = median(measured.map((round) => round.together))
      ratio = median(measured.map((round) => round.together / round.alone))
      console.error(
        `  embedded event store: ${alone.toFixed(0)} appends/s alone, ${together.toFixed(0)} with 64 appenders`,
      )
    }
    const targets = targetLines(rows, { ratio })
    const memory = residentMiB(server.pid)
    console.log(
      `\n${cpus()[0]?.model ?? "unknown processor"}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}; ${rounds} rounds of ${durationMs} ms; the load generator shares the machine\n`,
    )
    console.log(tableOf(rows))
    console.log()
    for (const line of targets) {
      console.log(
        `${line.met ? "met   " : "missed"}  ${line.value.toFixed(2).padStart(7)}  ${line.text} ${line.target}`,
      )
    }
    console.log(
      `\ndaemon memory at the end: ${Number.isNaN(memory) ? "not known here" : `${memory.toFixed(0)} MiB resident`}`,
    )
    if (flags.json) {
      writeFileSync(
        flags.json,
        `${JSON.stringify({ node: process.version, cores: cpus().length, rounds, durationMs, rows, targets, residentMiB: memory }, null, 2)}\n`,
      )
    }
  } finally {
    channel.close()
    floor.process.kill()
    await daemon.stop()
  }
}

// Dapr's sidecar stands beside the daemon on Redis.
const names = flags.daprd && positionals.length === 0 ? ["redis"] : positionals
const unknown = positionals.filter((name) => name !== "all" && !ENGINES.has(name))
if (unknown.length > 0) {
  console.error(`no such engine: ${unknown.join(", ")}; there are ${[...ENGINES.keys()].join(", ")}`)
  process.exit(2)
}
await (names.length > 0
  ? compareAll(names, { rounds, durationMs, daprd: flags.daprd, floor: flags.floor }, flags)
  : main())
