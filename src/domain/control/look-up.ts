/** Looking up who calls: it stands before the call, which has a deadline of its own. */
import { type CallScope, systemScope } from "../kernel/scope.ts"

/** Longest look-up, in milliseconds: a store that hangs must not use up the call's whole deadline. */
const LOOK_UP_MS = 2_000

/** How long a store that a look-up found away is taken to be so, in milliseconds; each further look-up says so anew. */
export const AWAY_MS = 5_000

/** The daemon's own scope for one look-up from now. */
export function lookUpScope(): CallScope {
  return { ...systemScope(), deadlineMs: Date.now() + LOOK_UP_MS }
}
