/** Plays one cell of the matrix: load, fault, repair, and then what must hold. */
import assert from "node:assert/strict"
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { until } from "../support/until.ts"
import type { Engine, Fault, Row } from "./cells.ts"
import { type Caller, DEADLINE_MS, p99, Track } from "./load.ts"

/** A call may come too late in any cell, if the machine has enough else to do. */
const BUSY = ["OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED (without a reason)"]
/** Everything is slow on a shared machine; nothing here is a promise. */
const PATIENCE_MS = 90_000
/** A call may outlive its deadline by 50 ms; the rest is what busy machines add. */
const MOST_LATE_MS = 2_000
const BEFORE_CALLS = 8
const ENOUGH_FAILURES = 10
const ENOUGH_CALLS = 25
const AFTER_CALLS = 3
const SETTLED_MS = 1_000
const ENOUGH_SETTLED = 5

/** An engine with its daemon, under load. */
export interface Subject {
  readonly engine: Engine
  /** Callers of the plane that suffers, several of each. */
  readonly callers: readonly Caller[]
  /** Callers of planes that do not use the engine. */
  readonly others: readonly Caller[]
  /** How often each of these writes is there; those that are not are left out. */
  present(ids: readonly string[]): Promise<ReadonlyMap<string, number>>
}

/** How a cell is played. */
export interface Play {
  readonly fault: Fault
  /** Reasons that callers are told, each of them. */
  readonly must: readonly string[]
  /** Reasons of which callers are told one at least. */
  readonly oneOf?: readonly string[]
  /** Other reasons that they may be told. */
  readonly may?: readonly string[]
  /**
   * The only reasons that calls are told which begin when the fault has lasted a second and end before their deadline: by then nobody
   * finds out about it in the middle of a call.
   */
  readonly settled?: readonly string[]
  /** The calls all succeed. */
  readonly harmless?: boolean
  /** Acknowledged writes may be gone: why. */
  readonly mayLose?: string
  inflict(): Promise<void> | void
  repair(): Promise<void> | void
  /** How many calls must have failed before the repair. Default 12. */
  readonly failures?: number
}

const rows: Row[] = []
let played = 0

/** Plays a cell and asserts what must hold in it. */
export async function playCell(subject: Subject, play: Play): Promise<Row> {
  const tag = `${play.fault.replaceAll(/\W/g, "")}${++played}`
  const suffering = subject.callers.map((caller) => new Track(caller))
  const others = subject.others.map((caller) => new Track(caller))
  const tracks = [...suffering, ...others]
  let over = false
  const running = Promise.all(tracks.map((track) => track.run(tag, () => over)))
  // Seen at the end; until then nobody may be blamed for not having looked.
  running.catch(() => {
    over = true
  })
  try {
    await healthy(tracks, 0, BEFORE_CALLS, "calls succeed before the fault")
    const faultAt = performance.now()
    await play.inflict()
    const settledAt = performance.now() + SETTLED_MS
    const isShown = () => shown(play, suffering, faultAt) && settledEnough(play, suffering, settledAt)
    await until(`the fault ${play.fault} shows`, () => over || isShown(), PATIENCE_MS)
    const repairAt = performance.now()
    await play.repair()
    await healthy(tracks, repairAt, AFTER_CALLS, `calls succeed after ${play.fault}`)
    over = true
    await running
    const row = rowOf(subject, play, suffering, others, faultAt, repairAt)
    const lost = await compare(subject, play, suffering)
    hold(play, row, others)
    holdSettled(play, settledFailures(suffering, settledAt, repairAt))
    rows.push({ ...row, lost })
    return { ...row, lost }
  } finally {
    over = true
    await running
  }
}

function healthy(tracks: readonly Track[], moment: number, calls: number, what: string): Promise<void> {
  const isHealthy = (track: Track) => {
    const first = moment === 0 ? 0 : track.firstSuccess(moment)
    return first !== undefined && track.successesSince(first === 0 ? 0 : first - 1) >= calls
  }
  return until(what, () => tracks.every(isHealthy), PATIENCE_MS).catch((error: unknown) => {
    const told = tracks
      .filter((track) => !isHealthy(track))
      .map(({ caller, notes }) => `${caller.name}: ${notes.at(-1)?.failure ?? "no answer, or too few"}`)
    throw new Error(`${String(error)} (${told.join(", ")})`)
  })
}

/** A fault lasts until enough calls have failed, and callers were told what it means. */
function shown(play: Play, suffering: readonly Track[], faultAt: number): boolean {
  const since = suffering.flatMap(({ notes }) => notes.filter(({ end }) => end > faultAt))
  if (play.harmless === true) return since.length >= ENOUGH_CALLS
  const failures = since.flatMap(({ failure }) => (failure === undefined ? [] : [failure]))
  if (failures.length < (play.failures ?? ENOUGH_FAILURES)) return false
  return play.must.every((expected) => failures.some(says(expected)))
}

function settledEnough({ settled }: Play, suffering: readonly Track[], settledAt: number): boolean {
  return settled === undefined || settledFailures(suffering, settledAt, Infinity).length >= ENOUGH_SETTLED
}

/** What calls were told that began and ended in good time between these moments. */
function settledFailures(suffering: readonly Track[], from: number, to: number): readonly string[] {
  return suffering.flatMap(({ notes }) =>
    notes.flatMap(({ start, end, failure }) =>
      failure !== undefined && start >= from && end < to && end - start < DEADLINE_MS ? [failure] : [],
    ),
  )
}

function holdSettled({ fault, settled }: Play, failures: readonly string[]): void {
  if (settled === undefined) return
  const strange = failures.filter((failure) => !settled.some((expected) => says(expected)(failure)))
  assert.deepEqual([...new Set(strange)], [], `callers were told what ${fault} cannot mean once it is known`)
}

/** Whether a caller was told this reason. */
const says = (expected: string) => (failure: string) =>
  failure === expected || failure.endsWith(` ${expected}`)

function rowOf(
  { engine }: Subject,
  { fault }: Play,
  suffering: readonly Track[],
  others: readonly Track[],
  faultAt: number,
  repairAt: number,
): Row {
  const notes = suffering.flatMap((track) => track.notes)
  const all = [...suffering, ...others].flatMap((track) => track.notes)
  const failures: Record<string, number> = {}
  for (const { failure } of notes) if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
  const back = Math.max(...suffering.map((track) => track.firstSuccess(repairAt) ?? 0))
  const failed = suffering.some((track) => track.notes.some(({ failure }) => failure !== undefined))
  const writers = suffering.filter(({ caller }) => caller.kind === "write")
  const count = (of: (track: Track) => ReadonlySet<string>) =>
    writers.reduce((sum, track) => sum + of(track).size, 0)
  const times = (from: number, to: number) =>
    p99(
      others.flatMap((track) =>
        track.notes.filter((n) => n.start >= from && n.start < to).map((n) => n.end - n.start),
      ),
    )
  return {
    engine,
    fault,
    failures,
    lateMs: Math.round(Math.max(0, ...notes.map(({ start, end }) => end - start - DEADLINE_MS))),
    degraded: all.filter(({ degraded }) => degraded).length,
    unavailableMs: failed ? Math.round(back - faultAt) : 0,
    healedMs: failed ? Math.round(back - repairAt) : 0,
    acknowledged: count((track) => track.acknowledged),
    unknown: count((track) => track.unknown),
    refused: count((track) => track.refused),
    lost: 0,
    others: {
      calls: others.reduce((sum, track) => sum + track.notes.length, 0),
      beforeP99: Math.round(times(0, faultAt)),
      duringP99: Math.round(times(faultAt, repairAt)),
    },
  }
}

/** Compares what writers were told with what is there; answers how much is lost where that may be. */
async function compare(subject: Subject, play: Play, suffering: readonly Track[]): Promise<number> {
  const writers = suffering.filter(({ caller }) => caller.kind === "write")
  const tried = writers.flatMap(({ acknowledged, unknown, refused }) => [
    ...acknowledged,
    ...unknown,
    ...refused,
  ])
  const present = await subject.present(tried)
  const lost = writers.flatMap(({ acknowledged }) => [...acknowledged].filter((id) => !present.has(id)))
  if (play.mayLose === undefined) assert.deepEqual(lost, [], "acknowledged writes are gone")
  const ghosts = writers.flatMap(({ refused }) => [...refused].filter((id) => present.has(id)))
  assert.deepEqual(ghosts, [], "writes are there that were said not to have been made")
  const twice = [...present].filter(([, times]) => times > 1)
  assert.deepEqual(twice, [], "writes are there more than once")
  return lost.length
}

function hold(play: Play, row: Row, others: readonly Track[]): void {
  assert.ok(row.lateMs <= MOST_LATE_MS, `a call was answered ${row.lateMs} ms after its deadline`)
  const bad = others.flatMap((track) =>
    track.notes.flatMap(({ failure }) => (failure === undefined ? [] : [`${track.caller.name}: ${failure}`])),
  )
  assert.deepEqual(bad, [], "the other planes are harmed")
  const told = Object.keys(row.failures)
  const { must, oneOf = [], may = [] } = play
  const allowed = [...must, ...oneOf, ...may, ...BUSY]
  const strange = told.filter((failure) => !allowed.some((expected) => says(expected)(failure)))
  assert.deepEqual(strange, [], `callers were told what ${play.fault} does not mean`)
  const said = (expected: string) => told.some(says(expected))
  const why = `callers were not told what ${play.fault} means: ${told.join(", ")}`
  assert.deepEqual(
    must.filter((expected) => !said(expected)),
    [],
    why,
  )
  assert.ok(oneOf.length === 0 || oneOf.some(said), why)
}

/** Keeps the rows where KEELPLANE_FAULTS_REPORT says, for the page about reliability. */
export function keepRows(engine: Engine): readonly Row[] {
  const folder = process.env.KEELPLANE_FAULTS_REPORT
  const own = rows.filter((row) => row.engine === engine)
  if (folder !== undefined && folder !== "") {
    mkdirSync(folder, { recursive: true })
    const file = join(folder, `${engine}.json`)
    const earlier = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Row[]) : []
    const others = earlier.filter(({ fault }) => own.every((row) => row.fault !== fault))
    writeFileSync(file, JSON.stringify([...others, ...own], null, 1))
  }
  return own
}
