/**
 * A load generator for unary gRPC calls, made to cost little itself: bodies are encoded beforehand, replies are only checked
 * for their status, and node:http2 is used without a gRPC library on top. It shares the machine with the server under test,
 * so ratios within one run mean more than absolute figures.
 */

import { readFileSync } from "node:fs"
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2"

/** What to send. */
export interface Load {
  /** `/package.Service/Method`. */
  readonly path: string
  /** Encoded request messages, without the gRPC prefix; sent in turn. */
  readonly bodies: readonly Uint8Array[]
  /** Calls under way at any time. */
  readonly inFlight: number
  /** How long to send, in milliseconds; at least one call per place in flight is made. */
  readonly durationMs: number
  /** At least so many calls are made however long they take. */
  readonly leastCalls?: number
}

/** What was seen. */
export interface Result {
  readonly calls: number
  readonly perSecond: number
  /** Latency percentiles in microseconds. */
  readonly p50: number
  readonly p99: number
  /** User and system CPU time of the server per call, in microseconds; NaN where the system does not tell. */
  readonly cpu: number
}

/** Puts the five bytes of a gRPC message in front of a body. */
function framed(body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(body.length + 5)
  frame.writeUInt8(0, 0)
  frame.writeUInt32BE(body.length, 1)
  frame.set(body, 5)
  return frame
}

/** CPU time a process has used, in microseconds, from /proc; NaN elsewhere. */
export function cpuMicros(pid: number): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
    // utime and stime are in clock ticks of 1/100 s on every Linux that Node supports.
    return (Number(fields[11]) + Number(fields[12])) * 10_000
  } catch {
    return Number.NaN
  }
}

/** Resident memory of a process in MiB, from /proc; NaN elsewhere. */
export function residentMiB(pid: number): number {
  try {
    const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))
    return match ? Number(match[1]) / 1024 : Number.NaN
  } catch {
    return Number.NaN
  }
}

/** The value below which a share of the sorted numbers lies. */
export function percentile(sorted: Float64Array | readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

function oneCall(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  frame: Buffer,
  done: (failure?: string) => void,
) {
  const stream: ClientHttp2Stream = session.request(headers)
  let status: string | undefined
  let message: string | undefined
  const note = (fields: Record<string, unknown>) => {
    if (fields["grpc-status"] !== undefined) {
      status = String(fields["grpc-status"])
      message = String(fields["grpc-message"] ?? "")
    }
  }
  stream.on("response", note)
  stream.on("trailers", note)
  stream.on("error", (error) => done(String(error)))
  stream.on("end", () => done(status === "0" ? undefined : `status ${status} ${message}`))
  stream.resume()
  stream.end(frame)
}

/**
 * Sends a load over one connection and measures it. Rejects at the first failed call: a benchmark of errors means nothing.
 * @param address `host:port`.
 * @param pid the server's process.
 */
export async function send(address: string, pid: number, load: Load): Promise<Result> {
  const session = connectHttp2(`http://${address}`, { settings: { initialWindowSize: 1 << 20 } })
  const frames = load.bodies.map(framed)
  const headers = {
    ":method": "POST",
    ":path": load.path,
    "content-type": "application/grpc",
    te: "trailers",
  }
  const latencies: number[] = []
  let next = 0
  let running = 0
  const cpuBefore = cpuMicros(pid)
  const started = performance.now()
  const end = started + load.durationMs
  try {
    await new Promise<void>((resolve, reject) => {
      session.on("error", reject)
      const start = () => {
        const frame = frames[next++ % frames.length]
        if (!frame) throw new Error("a load needs bodies")
        running++
        const begun = performance.now()
        oneCall(session, headers, frame, (failure) => {
          if (failure) return reject(new Error(`${load.path}: ${failure}`))
          const now = performance.now()
          latencies.push((now - begun) * 1000)
          running--
          if (now < end || next < (load.leastCalls ?? 0)) start()
          else if (running === 0) resolve()
        })
      }
      for (let index = 0; index < load.inFlight; index++) start()
    })
    const seconds = (performance.now() - started) / 1000
    const sorted = Float64Array.from(latencies).sort()
    return {
      calls: latencies.length,
      perSecond: latencies.length / seconds,
      p50: percentile(sorted, 0.5),
      p99: percentile(sorted, 0.99),
      cpu: (cpuMicros(pid) - cpuBefore) / latencies.length,
    }
  } finally {
    session.destroy()
  }
}
