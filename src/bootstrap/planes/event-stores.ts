/** The ports of the store `events` on whichever engine serves it. */
import type { AuditStore } from "../../domain/event/audit-ports.ts"
import type { EventStore } from "../../domain/event/event-store.ts"
import type { SessionStore } from "../../domain/event/session-store.ts"
import { createPostgresAuditStore } from "../../stores/postgres/audit-store.ts"
import { createPostgresEventStore } from "../../stores/postgres/event-store.ts"
import { createPostgresSessionStore } from "../../stores/postgres/session-store.ts"
import type { Kit } from "../kit.ts"

/** Undecorated. */
export interface EventStores {
  readonly events: EventStore
  readonly sessions: SessionStore
  readonly audit: AuditStore
}

/** Makes them, loading the adapters of an engine only where it is used. */
export async function eventStores({ handle, clock }: Kit): Promise<EventStores> {
  const engine = handle("events")
  switch (engine?.kind) {
    case "sql": {
      const { database, capabilities } = engine.sql
      const options = { clock, concurrency: capabilities.concurrency }
      return {
        events: createPostgresEventStore(database, options),
        sessions: createPostgresSessionStore(database, options),
        audit: createPostgresAuditStore(database, options),
      }
    }
    case "cassandra": {
      const { session: cql } = engine.cassandra
      const { createCassandraAuditStore, createCassandraEventStore, createCassandraSessionStore } =
        await import("../../stores/cassandra/stores.ts")
      return {
        events: createCassandraEventStore(cql, { clock }),
        sessions: createCassandraSessionStore({ cql, clock }),
        audit: createCassandraAuditStore({ cql, clock }),
      }
    }
    default:
      throw new Error("the store events is served by an engine of another kind")
  }
}
