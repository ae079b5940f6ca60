/**
 * Changing a partition by compare-and-set on its static head. Every write puts an id of its own into the head, so that no
 * two states look the same, and the ids before it beside it, so that a write whose answer was lost can be found again.
 */
import { randomUUID } from "node:crypto"
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { isUnknown, outcomeUnknown, overloaded } from "./errors.ts"

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

/** What is not certain about a call so far. */
export interface Doubt {
  /** A write may be on its way to a node that stands still; it would only take place where its head is as it was. */
  late: boolean
}

/**
 * Sends a conditional write. An unknown outcome is resolved by a serial read of the head, which also settles what is under
 * way; it is passed on only where that read fails or so much was written since that nothing can be told.
 */
export async function settle(
  write: { readonly expected: string | null; readonly version: string },
  send: () => Promise<boolean>,
  readSerial: () => Promise<Stamp | undefined>,
  doubt?: Doubt,
): Promise<Fate> {
  try {
    return (await send()) ? "applied" : "lost"
  } catch (error) {
    if (!isUnknown(error)) throw error
    const found = await readSerial().catch(() => {
      throw error
    })
    if (doubt !== undefined && (found?.version ?? null) === write.expected) doubt.late = true
    return fateFrom(write, found) ?? Promise.reject(error)
  }
}

function fateFrom(
  { expected, version }: { readonly expected: string | null; readonly version: string },
  found: Stamp | undefined,
): Fate | undefined {
  const recent = found?.recent ?? []
  if (recent.includes(version)) return "applied"
  // The head is as it was, or others went on from there without this write.
  if ((found?.version ?? null) === expected) return "lost"
  if (expected === null) return recent.length < RECENT ? "lost" : undefined
  return recent.includes(expected) ? "lost" : undefined
}

/** How often a write that lost a race tries again before the caller has to. */
const ATTEMPTS = 30
const PAUSE_MS = 4
const MAX_PAUSE_MS = 250

/**
 * Runs `attempt` until it answers something else than undefined, with growing pauses. Raises OVERLOADED when it never does, and
 * OUTCOME_UNKNOWN for what would say that nothing was applied while a write may still be on its way.
 */
export async function untilApplied<R>(
  scope: CallScope,
  attempt: (doubt: Doubt) => Promise<R | undefined>,
): Promise<R> {
  const doubt: Doubt = { late: false }
  try {
    for (let n = 0; n < ATTEMPTS; n++) {
      const answer = await attempt(doubt)
      if (answer !== undefined) return answer
      const most = Math.min(PAUSE_MS * 2 ** n, MAX_PAUSE_MS)
      await pause(most * (0.5 + Math.random() / 2), scope.signal)
      requireLive(scope)
    }
    throw overloaded("too many daemons write to the same place; nothing was applied")
  } catch (error) {
    throw doubt.late ? outcomeUnknown(error) : error
  }
}
