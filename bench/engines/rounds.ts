/** What was measured, and its medians. */
import type { Result } from "../load.ts"
import { median } from "../measure.ts"
import type { Work } from "./engine.ts"

/** Who does the work. */
export type Way = string
/** What each did in one round. */
export type Round = Readonly<Record<Way, Result>>

/** One kind of work with so many calls in flight, measured. */
export interface Measured {
  readonly work: Work
  readonly inFlight: number
  readonly rounds: readonly Round[]
}

/** An empty handler on the daemon's transport. */
export const FLOOR = "empty handler"
/** The engine's driver alone. */
export const BARE = "bare driver"
/** A store's adapter without the daemon around it. */
export const ADAPTER = "adapter"
/** Dapr's sidecar. */
export const DAPRD = "daprd"
/** The daemon. */
export const DAEMON = "daemon"

/** The median over rounds of a figure, or of a ratio within each round. */
export function middle(rounds: readonly Round[], pick: (of: (way: Way) => Result) => number): number {
  return median(
    rounds.map((round) =>
      pick((way) => {
        const result = round[way]
        if (result === undefined) throw new RangeError(`nothing was measured for ${way}`)
        return result
      }),
    ),
  )
}
