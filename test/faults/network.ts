/** The cells that a bad network makes, which are the same for every engine, and what any engine's callers may be told. */
import type { TcpProxy } from "../support/proxy.ts"
import type { Play } from "./matrix.ts"

/** A change that may have been made. */
export const UNKNOWN = ["OUTCOME_UNKNOWN"]
/** A change that was not made, or a read that was not answered, since the store could not be asked. */
export const AWAY = ["STORE_UNAVAILABLE", "OVERLOADED", "DEADLINE_EXCEEDED"]
/** Both, for faults in the middle of calls. */
export const CUT_OFF = [...UNKNOWN, ...AWAY]

/** What a store that does not answer means, for reads, for changes that it did not get to, and for others. */
export const LATE = ["OUTCOME_UNKNOWN", "DEADLINE_EXCEEDED"]

/** How long each direction takes in the cell `slow`; a call has several of them. */
const SLOW_MS = 20
/** Answers that get lost. Some are those of calls that are repeated without their callers' noticing. */
const MOST_LOST = 12

/**
 * Refused, blackhole, slow, reset and lost reply. `mark` is in the bytes of requests whose answers get lost: those of the writer
 * that it names, or what it says.
 */
export function networkPlays(
  proxy: TcpProxy,
  mark: { readonly writer: string } | string,
  // Where the driver does not tell a connection that could not be made from one that was lost.
  vague = false,
): readonly Play[] {
  const markOf = (fault: string) => (typeof mark === "string" ? mark : `${mark.writer}-${fault}`)
  return [
    {
      fault: "refused",
      must: ["STORE_UNAVAILABLE"],
      may: CUT_OFF,
      ...(vague ? {} : { settled: ["STORE_UNAVAILABLE"] }),
      inflict: () => proxy.refuse(),
      repair: () => proxy.accept(),
    },
    {
      fault: "blackhole",
      must: [],
      oneOf: LATE,
      may: CUT_OFF,
      inflict: () => proxy.hold(),
      repair: () => proxy.release(),
    },
    {
      fault: "slow",
      must: [],
      harmless: true,
      inflict: () => proxy.delay(SLOW_MS),
      repair: () => proxy.delay(0),
    },
    {
      fault: "reset",
      must: ["OUTCOME_UNKNOWN"],
      may: CUT_OFF,
      failures: 2,
      inflict: () => proxy.lose(markOf("reset"), "reset", MOST_LOST),
      repair: () => proxy.loseNone(),
    },
    {
      fault: "lost reply",
      must: ["OUTCOME_UNKNOWN"],
      may: CUT_OFF,
      failures: 2,
      inflict: () => proxy.lose(markOf("lostreply"), "silence", MOST_LOST),
      repair: () => proxy.loseNone(),
    },
  ]
}

/** Sends a signal to processes of which some may have ended in between. */
export function signalAll(pids: readonly number[], name: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name)
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error
    }
  }
}
