/** The matrix as a table, for the output of a run and for the page about reliability. */
import type { Engine, Fault, Row } from "./cells.ts"

const HEAD = [
  "engine",
  "fault",
  "what callers are told",
  "longest outage",
  "healed after",
  "acknowledged / unknown / refused",
  "lost",
  "latest after its deadline",
  "others' p99 before, during",
]

/** A cell that the run left out. */
export interface Gap {
  readonly engine: Engine
  readonly fault: Fault
}

/** Lines of a Markdown table. */
export function tableOf(rows: readonly (Row | Gap)[]): readonly string[] {
  return [HEAD, HEAD.map(() => "---"), ...rows.map(columns)].map((cells) => `| ${cells.join(" | ")} |`)
}

/** Prints the rows of a run. */
export function print(rows: readonly Row[]): void {
  if (rows.length > 0) console.log(tableOf(rows).join("\n"))
}

function columns(row: Row | Gap): readonly string[] {
  if (!("failures" in row)) {
    return HEAD.map((_, index) => [row.engine, row.fault, "not in this run"][index] ?? "")
  }
  const told = Object.entries(row.failures)
    .sort(([, a], [, b]) => b - a)
    .map(([failure]) => failure)
  if (row.degraded > 0) told.push("poorer answers (`degraded`)")
  const { calls: _, beforeP99, duringP99 } = row.others
  return [
    row.engine,
    row.fault,
    told.length === 0 ? "nothing: every call succeeds" : told.join(", "),
    `${row.unavailableMs} ms`,
    `${row.healedMs} ms`,
    `${row.acknowledged} / ${row.unknown} / ${row.refused}`,
    String(row.lost),
    `${row.lateMs} ms`,
    `${beforeP99} ms, ${duringP99} ms`,
  ]
}
