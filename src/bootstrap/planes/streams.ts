import { EventLog } from "../../domain/event/event-log.ts"
import { EVENT_STORE_OPERATIONS } from "../../domain/event/event-store.ts"
import { SESSION_STORE_OPERATIONS, type SessionStore } from "../../domain/event/session-store.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { createEventService } from "../../services/event-service.ts"
import { createSessionService } from "../../services/session-service.ts"
import type { Kit, Plane } from "../kit.ts"
import { retentionMs } from "../retention.ts"
import { eventStores } from "./event-stores.ts"

const SWEEP_ROWS = 1_000

/** The stream plane, and what flows over several planes use of it. */
export interface StreamPlane extends Plane {
  readonly events: EventLog
  readonly sessions: SessionStore
}

/** EventService and SessionService. */
export async function streamPlane(kit: Kit): Promise<StreamPlane> {
  const { clock, logger, pages } = kit
  const raw = await eventStores(kit)
  const store = kit.guard("events", "streams", raw.events, EVENT_STORE_OPERATIONS)
  const sessions = kit.guard("events", "sessions", raw.sessions, SESSION_STORE_OPERATIONS)
  const events = new EventLog(store, { logger })
  return {
    events,
    sessions,
    services: [
      createEventService({ events, pages, clock }),
      createSessionService({
        sessions,
        pages,
        defaultTtlMs: retentionMs(kit.config, "sessions_days"),
      }),
    ],
    needs: ["events"],
    sweepers: [
      { name: "events", intervalMs: 60_000, run: sweepWith(store) },
      { name: "sessions", intervalMs: 60_000, run: sweepWith(sessions) },
    ],
    close: async () => {},
  }
}

function sweepWith(store: { sweep(scope: CallScope, limit: number): Promise<number> }) {
  return async (scope: CallScope) => {
    const removed = await store.sweep(scope, SWEEP_ROWS)
    return { removed, more: removed >= SWEEP_ROWS }
  }
}
