/** Figures of tests for the page about reliability: kept in the folder that KEELPLANE_FAULTS_REPORT names, one file each. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** How late the answers of one engine came that hung. Times in milliseconds. */
export interface LateRow {
  readonly engine: string
  readonly deadlineMs: number
  readonly calls: number
  /** After the deadline; what came before it counts as 0. */
  readonly p50: number
  readonly p99: number
  readonly most: number
  /** The RPC whose answer was the latest. */
  readonly latest: string
  /** How late timers of the client fired meanwhile, the 99th percentile: what the machine adds. */
  readonly noise: number
}

/** What a soak found. Memory in MiB. */
export interface SoakReport {
  readonly minutes: number
  readonly stores: string
  readonly answered: number
  readonly brokenOff: number
  readonly failures: Readonly<Record<string, number>>
  readonly faults: Readonly<Record<string, number>>
  readonly rests: number
  /** Growth over the run by the line through the readings at rest, and the readings at both ends. */
  readonly heap: Growth
  readonly resident: Growth
  /** Sockets, timers and pipes that the event loop waits for. */
  readonly active: Growth
  /** What the figures are to be read with. */
  readonly note?: string
}

/** How something went from the first rest that counts to the last. */
export interface Growth {
  readonly first: number
  readonly last: number
  readonly growth: number
}

/** What the page is told, by file. */
interface Reports {
  readonly late: readonly LateRow[]
  readonly soak: SoakReport
}

/** Keeps figures where there is a folder for them. */
export function keepReport<K extends keyof Reports>(name: K, report: Reports[K]): void {
  const folder = process.env.KEELPLANE_FAULTS_REPORT
  if (folder === undefined || folder === "") return
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${name}.json`), JSON.stringify(report, null, 1))
}

/** What {@link keepReport} kept in `folder`. */
export function readReport<K extends keyof Reports>(folder: string, name: K): Reports[K] | undefined {
  const file = join(folder, `${name}.json`)
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Reports[K]) : undefined
}

/** The figures of {@link LateRow} as lines of a table. */
export function lateTable(rows: readonly LateRow[]): readonly string[] {
  const ms = (value: number) => `${Math.round(value)} ms`
  return [
    "| deadline | engine | calls | median | 99 of 100 | latest | of | the client's own timers |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ...rows.map(
      ({ engine, deadlineMs, calls, p50, p99, most, latest, noise }) =>
        `| ${deadlineMs} ms | ${engine} | ${calls} | ${ms(p50)} | ${ms(p99)} | ${ms(most)} | ${latest} | ${ms(noise)} |`,
    ),
  ]
}

/** A {@link SoakReport} as lines. */
export function soakLines(soak: SoakReport): readonly string[] {
  const list = (counts: Readonly<Record<string, number>>) =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${name} (${count})`)
      .join(", ")
  const line = (what: string, unit: string, { first, last, growth }: Growth) =>
    `| ${what} | ${first.toFixed(1)}${unit} | ${last.toFixed(1)}${unit} | ${growth.toFixed(1)}${unit} |`
  return [
    `${Math.round(soak.minutes)} minutes on ${soak.stores}: ${soak.answered} calls answered, ${soak.brokenOff} broken off by impatient callers.`,
    "",
    `- bad luck: ${list(soak.faults)}`,
    `- what callers were told meanwhile: ${list(soak.failures)}`,
    `- at each of ${soak.rests} rests nothing was in flight, in line, or held of a pool`,
    "",
    "| at rest | first | last | growth over the run |",
    "| --- | --- | --- | --- |",
    line("heap", " MiB", soak.heap),
    line("resident", " MiB", soak.resident),
    line("sockets, timers, pipes", "", soak.active),
    ...(soak.note === undefined ? [] : ["", soak.note]),
  ]
}
