/**
 * Changing a partition by compare-and-set on its static head. Every write puts an id of its own into the head, so that no
 * two states look the same, and the ids before it beside it, so that a write whose answer was lost can be found again.
 */
import { randomUUID } from "node:crypto"
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { isUnknown, overloaded } from "./errors.ts"

/** Who wrote a head last, and who before; null where nobody has. */
export interface Stamp {
  readonly version: string | null
  /** The writes up to this one, newest last. */
  readonly recent: readonly string[] | null
}

/** How many writes a head remembers: a lost answer is found unless more than these came after it. */
const RECENT = 16

/** The stamp of the next write after `before`. */
export function nextStamp(before: Stamp | undefined): {
  readonly version: string
  readonly recent: string[]
} {
  const version = randomUUID()
  return { version, recent: [...(before?.recent ?? []), version].slice(-RECENT) }
}

/** What became of a conditional write. */
export type Fate = "applied" | "lost"

/** How often a write is sent whose answer is lost; it can take place but once. */
const SENDS = 3

/**
 * Sends a conditional write. An unknown outcome is resolved by a serial read of the head, which also settles what has reached
 * the servers. Where the head is as it was, the write may still be on its way: the very same one is sent again, so that either
 * of them takes place or neither. "lost" is certain: the head went on without it. Rejects with OUTCOME_UNKNOWN where that
 * cannot be told, also when a later sending is refused or so much was written since that the head has forgotten.
 */
export async function settle(
  write: { readonly expected: string | null; readonly version: string },
  send: () => Promise<boolean>,
  readSerial: () => Promise<Stamp | undefined>,
): Promise<Fate> {
  let doubt: unknown
  for (let sent = 0; sent < SENDS; sent++) {
    try {
      if (await send()) return "applied"
      // Somebody was faster; where an answer was lost that may have been ourselves.
      if (doubt === undefined) return "lost"
    } catch (error) {
      if (!isUnknown(error)) throw doubt ?? error
      doubt = error
    }
    const found = await readSerial().catch(() => {
      throw doubt
    })
    const fate = fateFrom(write, found)
    if (fate === "unsaid") throw doubt
    if (fate !== "open") return fate
  }
  throw doubt
}

/** "open": the head is as it was; "unsaid": nothing can be told from it. */
function fateFrom(
  { expected, version }: { readonly expected: string | null; readonly version: string },
  found: Stamp | undefined,
): Fate | "open" | "unsaid" {
  const recent = found?.recent ?? []
  if (recent.includes(version)) return "applied"
  if ((found?.version ?? null) === expected) return "open"
  // Others went on from there without this write.
  if (expected === null) return recent.length < RECENT ? "lost" : "unsaid"
  return recent.includes(expected) ? "lost" : "unsaid"
}

/** How often a write that lost a race tries again before the caller has to. */
const ATTEMPTS = 30
const PAUSE_MS = 4
const MAX_PAUSE_MS = 250

/** Runs `attempt` until it answers something else than undefined, with growing pauses. Raises OVERLOADED when it never does. */
export async function untilApplied<R>(scope: CallScope, attempt: () => Promise<R | undefined>): Promise<R> {
  for (let n = 0; n < ATTEMPTS; n++) {
    const answer = await attempt()
    if (answer !== undefined) return answer
    const most = Math.min(PAUSE_MS * 2 ** n, MAX_PAUSE_MS)
    await pause(most * (0.5 + Math.random() / 2), scope.signal)
    requireLive(scope)
  }
  throw overloaded("too many daemons write to the same place; nothing was applied")
}
