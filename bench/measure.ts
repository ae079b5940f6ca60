/** What benchmarks share: medians, and the floor's process. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"

/** A server under test. */
export interface Server {
  readonly address: string
  readonly pid: number
}

/** The middle value, or the mean of the two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low, high] = [sorted[middle - 1], sorted[middle]]
  if (high === undefined) return Number.NaN
  return sorted.length % 2 === 0 && low !== undefined ? (low + high) / 2 : high
}

/** Transports that the empty handler can be on; the first is the daemon's by default. */
export const FLOORS: readonly string[] = ["http2", "grpc-js"]

/** Starts the empty handler on one of {@link FLOORS}. */
export async function startFloor(transport: string): Promise<Server & { process: ChildProcess }> {
  const script = fileURLToPath(new URL("./floor.ts", import.meta.url))
  const child = spawn(process.execPath, [script, transport], { stdio: ["ignore", "pipe", "inherit"] })
  const [port] = await once(child.stdout, "data")
  return { address: `127.0.0.1:${String(port).trim()}`, pid: child.pid ?? 0, process: child }
}
