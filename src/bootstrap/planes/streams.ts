import { EventLog } from "../../domain/event/event-log.ts"
import { EVENT_STORE_OPERATIONS } from "../../domain/event/event-store.ts"
import { createEventService } from "../../services/event-service.ts"
import { createPostgresEventStore } from "../../stores/postgres/event-store.ts"
import type { Kit, Plane } from "../kit.ts"

const SWEEP_ROWS = 1_000

/** EventService. */
export async function streamPlane(kit: Kit): Promise<Plane> {
  const { database, capabilities } = kit.sql("events")
  const { clock, logger, pages } = kit
  const store = kit.guard(
    "events",
    "streams",
    createPostgresEventStore(database, { clock, concurrency: capabilities.concurrency }),
    EVENT_STORE_OPERATIONS,
  )
  const events = new EventLog(store, { logger })
  return {
    services: [createEventService({ events, pages, clock })],
    needs: ["events"],
    sweepers: [
      {
        name: "events",
        intervalMs: 60_000,
        run: async (scope) => {
          const removed = await store.sweep(scope, SWEEP_ROWS)
          return { removed, more: removed >= SWEEP_ROWS }
        },
      },
    ],
    close: async () => {},
  }
}
