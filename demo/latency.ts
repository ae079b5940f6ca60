/** Latencies of calls, by plane and RPC, for the table at the end of the demo. */
import { percentile } from "../bench/load.ts"

/** Collects latencies. */
export class Latencies {
  readonly #samples = new Map<string, { plane: string; rpc: string; micros: number[] }>()

  /** Measures one call. */
  async time<T>(plane: string, rpc: string, work: () => Promise<T>): Promise<T> {
    const started = performance.now()
    const result = await work()
    this.add(plane, rpc, (performance.now() - started) * 1000)
    return result
  }

  /** Adds a measurement, in microseconds. */
  add(plane: string, rpc: string, micros: number): void {
    const key = `${plane} ${rpc}`
    const entry = this.#samples.get(key) ?? { plane, rpc, micros: [] }
    entry.micros.push(micros)
    this.#samples.set(key, entry)
  }

  /** The table as text: calls, median, 99th percentile and maximum in milliseconds. */
  table(): string {
    const rows = [["plane", "rpc", "calls", "p50 ms", "p99 ms", "max ms"]]
    const order = ["memory", "event", "cache", "control"]
    const entries = [...this.#samples.values()].sort(
      (a, b) => order.indexOf(a.plane) - order.indexOf(b.plane) || a.rpc.localeCompare(b.rpc),
    )
    for (const { plane, rpc, micros } of entries) {
      const sorted = micros.toSorted((a, b) => a - b)
      const ms = (value: number | undefined) => ((value ?? Number.NaN) / 1000).toFixed(2)
      rows.push([
        plane,
        rpc,
        String(sorted.length),
        ms(percentile(sorted, 0.5)),
        ms(percentile(sorted, 0.99)),
        ms(sorted.at(-1)),
      ])
    }
    return formatTable(rows)
  }
}

/** Aligns columns: text to the left, numbers to the right. The first row is the head. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const numeric = (text: string) => /^[-\d]/.test(text)
  const line = (row: readonly string[], head: boolean) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0
        const right = head ? numeric(rows[1]?.[column] ?? "") : numeric(cell)
        return right ? cell.padStart(width) : cell.padEnd(width)
      })
      .join("  ")
      .trimEnd()
  const rule = widths.map((width) => "-".repeat(width)).join("  ")
  return rows.map((row, index) => (index === 0 ? `${line(row, true)}\n${rule}` : line(row, false))).join("\n")
}
