/**
 * How near the daemon is to the end of its memory: the old generation of the heap against V8's limit for it, the whole process
 * against its cgroup's. Shedding must begin before the kernel or V8 ends everything at once.
 */
import { totalmem } from "node:os"
import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8"

/** Reading costs some microseconds, so it is done now and then and not per call. */
const SAMPLE_MS = 100
const MIB = 1_048_576

/** The share of the memory that is used, 0 to 1: the greater one of heap and process. */
export function usedMemoryShare(): number {
  const heap = usedOldBytes() / OLD_LIMIT
  const allowed = process.constrainedMemory()
  // Without a limit the answer is 0 or more than the machine has.
  if (allowed <= 0 || allowed >= totalmem()) return heap
  return Math.max(heap, process.memoryUsage.rss() / allowed)
}

/** What V8 ends the process over. The young generation comes and goes, and V8 counts it to the heap's limit on top. */
const OLD_LIMIT = oldLimitBytes([process.env.NODE_OPTIONS ?? "", ...process.execArgv])

/** The limit of the old generation, by the options that the process was started with, the last of which counts. */
export function oldLimitBytes(options: readonly string[]): number {
  const given = [...options.join(" ").matchAll(/--max[-_]old[-_]space[-_]size[= ](\d+)/g)].at(-1)?.[1]
  // Left to itself, V8 gives the young generation three sixty-fourths more.
  return given === undefined || given === "0"
    ? (getHeapStatistics().heap_size_limit * 64) / 67
    : Number(given) * MIB
}

function usedOldBytes(): number {
  return getHeapSpaceStatistics().reduce(
    (sum, { space_name: name, space_used_size: used }) => (name.startsWith("new_") ? sum : sum + used),
    0,
  )
}

/** Remembers the share for a moment. */
export class MemoryPressure {
  readonly #read: () => number
  readonly #now: () => number
  #share = 0
  #readAtMs = Number.NEGATIVE_INFINITY

  constructor(read: () => number = usedMemoryShare, now: () => number = Date.now) {
    this.#read = read
    this.#now = now
  }

  /** The share of the memory that is used, at most a tenth of a second old. `now` saves a look at the clock. */
  share(now = this.#now()): number {
    if (now - this.#readAtMs >= SAMPLE_MS) {
      this.#readAtMs = now
      this.#share = this.#read()
    }
    return this.#share
  }
}
