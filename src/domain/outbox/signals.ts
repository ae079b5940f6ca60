/** Wakes the relay of this process when an entry was committed here. Other daemons' relays find it by their polls. */
import { type Listener, WakeUps } from "../kernel/wake-ups.ts"

/** Most workers of relays in one process. */
const MAX_WORKERS = 10_000

/** Hints only: an entry is delivered without them too, a little later. */
export interface OutboxSignals {
  /** Call it after the commit of a transaction that added entries of the topic. */
  committed(topic: string): void
  /** Begins to listen to a topic; close it. */
  listen(topic: string): Listener
}

/** Signals for one database in one process. */
export function createOutboxSignals(): OutboxSignals {
  const wakeUps = new WakeUps(MAX_WORKERS)
  return {
    committed: (topic) => wakeUps.wake(topic, 1),
    listen: (topic) => wakeUps.listen([topic]),
  }
}
