/** Version 7 UUIDs (RFC 9562), which rise within a process: a new one is larger than all before it. */
import { randomFillSync } from "node:crypto"

/** Random bits in an id behind the time: a counter that begins anywhere in its lower half every millisecond, then noise. */
const COUNTER_BITS = 32
const COUNTER_START = 2 ** (COUNTER_BITS - 1)
const COUNTER_END = 2 ** COUNTER_BITS

const noise = Buffer.allocUnsafeSlow(4_096)
/** An id takes four bytes where its millisecond is new, and six. */
const NOISE_PER_ID = 10
let used = noise.length
let time = 0
let counter = 0
const id = Buffer.allocUnsafeSlow(16)

/** A new id, in lower case. Asking the system for noise once for many ids makes it cheap. */
export function uuid7(now: number = Date.now()): string {
  if (used + NOISE_PER_ID > noise.length) {
    randomFillSync(noise)
    used = 0
  }
  if (now > time) {
    time = now
    counter = noise.readUInt32BE(used) % COUNTER_START
    used += 4
  } else if (++counter === COUNTER_END) {
    // Four billion ids in a millisecond, or a clock that was set back for very long: on with the next one.
    time++
    counter = 0
  }
  id.writeUIntBE(time, 0, 6)
  id.writeUInt16BE(0x7000 | (counter / 2 ** 20), 6)
  // The variant, and what the counter has below its upper twelve bits.
  id.writeUInt32BE(0x80000000 + (counter % 2 ** 20) * 2 ** 10 + (noise.readUInt16BE(used) & 0x3ff), 8)
  id.writeUInt32BE(noise.readUInt32BE(used + 2), 12)
  used += 6
  const hex = id.toString("hex")
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
