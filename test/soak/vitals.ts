/** What a daemon holds: memory, connections, timers, calls. Read from its metrics. */
import type { Daemon } from "../support/daemon.ts"

/** One reading. */
export interface Vitals {
  readonly heapMiB: number
  readonly residentMiB: number
  /** Calls in flight, open streams, calls with and in line for stores, connections of pools that are in use or waited for. */
  readonly busy: Readonly<Record<string, number>>
  /** Whatever the event loop waits for, by type: sockets, timers, pipes. */
  readonly active: Readonly<Record<string, number>>
}

const MIB = 2 ** 20
const BUSY =
  /^(keelplane_bulkhead_calls_in_flight|keelplane_bulkhead_calls_queued|keelplane_store_pool_waiting|keelplane_rpc_server_calls_in_flight|keelplane_rpc_server_streams_open)(\{[^}]*\})? (\S+)$/
/** The cache's one connection is for everybody and always in use. */
const USED = /^(keelplane_store_pool_connections\{store="(?!cache")[^}]*state="used"[^}]*\})() (\S+)$/
const ACTIVE = /^nodejs_active_resources\{type="(\w+)"\}() (\S+)$/

/** Reads them. */
export async function vitals(daemon: Daemon): Promise<Vitals> {
  const text = await (await fetch(`http://${daemon.opsAddress}/metrics`)).text()
  const busy: Record<string, number> = {}
  const active: Record<string, number> = {}
  let heapMiB = Number.NaN
  let residentMiB = Number.NaN
  for (const line of text.split("\n")) {
    const held = BUSY.exec(line) ?? USED.exec(line)
    if (held !== null) busy[`${held[1]}${held[2] ?? ""}`] = Number(held[3])
    const resource = ACTIVE.exec(line)
    if (resource !== null) active[String(resource[1])] = Number(resource[3])
    if (line.startsWith("nodejs_heap_size_used_bytes ")) heapMiB = Number(line.split(" ")[1]) / MIB
    if (line.startsWith("process_resident_memory_bytes ")) residentMiB = Number(line.split(" ")[1]) / MIB
  }
  return { heapMiB, residentMiB, busy, active }
}

/** The slope of a line through readings at equal distances, by least squares. */
export function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((sum, each) => sum + each, 0) / values.length
  const above = values.reduce((sum, each, at) => sum + (at - middle) * (each - mean), 0)
  return above / values.reduce((sum, _, at) => sum + (at - middle) ** 2, 0)
}
