/** Where events with ids of their callers' choice are. An entry comes before its event and only says where to look. */
import type { Append } from "../../domain/event/event-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import type { KnownEvent } from "./event-append.ts"
import type { EventRows, PlacedEvent } from "./event-rows.ts"
import type { Tip } from "./event-tip.ts"

/** Finds events of a stream by id. */
export class EventIds {
  readonly #cluster: Cluster
  readonly #rows: EventRows

  constructor(cluster: Cluster, rows: EventRows) {
    this.#cluster = cluster
    this.#rows = rows
  }

  /** Those of the batches' given ids that the stream has up to its tip. */
  async find(
    scope: CallScope,
    tip: Tip,
    batches: readonly Append[],
  ): Promise<ReadonlyMap<string, KnownEvent>> {
    const ids = batches.flatMap(({ events }) =>
      events.filter(({ idGiven }) => idGiven).map(({ eventId }) => eventId),
    )
    const known = new Map<string, KnownEvent>()
    if (tip.head === 0n) return known
    await Promise.all(
      [...new Set(ids)].map(async (eventId) => {
        const rows = await this.#cluster.read<{ revision: bigint }>(scope, {
          cql: "select revision from event_ids where tenant = ? and stream = ? and event_id = ?",
          values: [scope.tenant, tip.stream, eventId],
        })
        for (const { revision } of rows) {
          if (revision > tip.head) continue
          const found = await this.#rows.at(scope, tip.stream, revision)
          if (found?.eventId === eventId) known.set(eventId, { revision, recordedMs: found.recordedMs })
        }
      }),
    )
    return known
  }

  /** Says where events are about to be. */
  async announce(scope: CallScope, stream: string, placed: readonly PlacedEvent[]): Promise<void> {
    await Promise.all(
      placed
        .filter(({ event }) => event.idGiven)
        .map(({ revision, event }) =>
          this.#cluster.write(scope, {
            cql: "insert into event_ids (tenant, stream, event_id, revision) values (?, ?, ?, ?)",
            values: [scope.tenant, stream, event.eventId, revision],
          }),
        ),
    )
  }
}
