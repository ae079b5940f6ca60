/**
 * How near the daemon is to the end of its memory: the heap against V8's limit, the whole process against its cgroup's. Shedding
 * must begin before the kernel or V8 ends everything at once.
 */
import { totalmem } from "node:os"
import { getHeapStatistics } from "node:v8"

/** Reading costs some microseconds, so it is done now and then and not per call. */
const SAMPLE_MS = 100

/** The share of the memory that is used, 0 to 1: the greater one of heap and process. */
export function usedMemoryShare(): number {
  const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
  const heap = used / limit
  const allowed = process.constrainedMemory()
  // Without a limit the answer is 0 or more than the machine has.
  if (allowed <= 0 || allowed >= totalmem()) return heap
  return Math.max(heap, process.memoryUsage.rss() / allowed)
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

  /** The share of the memory that is used, at most a tenth of a second old. */
  share(): number {
    const now = this.#now()
    if (now - this.#readAtMs >= SAMPLE_MS) {
      this.#readAtMs = now
      this.#share = this.#read()
    }
    return this.#share
  }
}
