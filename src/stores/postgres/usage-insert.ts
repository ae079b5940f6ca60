/** Inserting usage events together with the daily sums that budgets look at. */
import type { UsageEvent } from "../../domain/billing/model.ts"
import type { Tx } from "./database.ts"

/** An event that is certainly to be recorded, unless someone else records its id meanwhile. */
export interface FreshEvent {
  readonly event: UsageEvent
  readonly hash: Uint8Array
}

// Rows are taken in the order of their keys, so that two transactions never wait for each other. Ids are claimed in a table of their
// own, because what makes the partitions of events is not part of an id.
const INSERT = `with input as (
    select * from unnest($2::text[], $3::text[], $4::numeric[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
      $9::text[], $10::bytea[])
      as e (event_id, meter, quantity, event_time, agent_id, user_id, session_id, dimensions, body_hash)
  ), claimed as (
    insert into keelplane.usage_ids (tenant, event_id, body_hash, latest)
    select $1, event_id, body_hash, greatest(event_time, $11) from input order by event_id collate "C"
    on conflict (tenant, event_id) do nothing
    returning event_id
  ), inserted as (
    insert into keelplane.usage_events (tenant, event_id, meter, quantity, event_time, agent_id, user_id, session_id,
      dimensions, body_hash, record_time)
    select $1, event_id, meter, quantity, event_time, agent_id, user_id, session_id, dimensions::jsonb, body_hash, $11
    from input order by event_id collate "C"
    on conflict do nothing
    returning meter, quantity, event_time, agent_id, user_id, session_id
  ), summed as (
    insert into keelplane.usage_days as d (tenant, meter, subject_kind, subject_id, day, quantity)
    select $1, i.meter, s.kind, s.id, (i.event_time at time zone 'UTC')::date as day, sum(i.quantity)
    from inserted i cross join lateral
      (values ('', ''), ('agent', i.agent_id), ('user', i.user_id), ('session', i.session_id)) as s (kind, id)
    where s.kind = '' or s.id <> ''
    group by i.meter, s.kind, s.id, (i.event_time at time zone 'UTC')::date
    order by 2, 3, 4, 5
    on conflict (tenant, meter, subject_kind, subject_id, day) do update set quantity = d.quantity + excluded.quantity
  )
  select count(*)::int as claimed from claimed`

/** Inserts events and answers how many of their ids were free: unless all are, the transaction must not be committed. */
export async function insertUsage(tx: Tx, events: readonly FreshEvent[], now: Date): Promise<number> {
  if (events.length === 0) return 0
  const column = <T>(pick: (event: UsageEvent) => T): T[] => events.map(({ event }) => pick(event))
  const { rows } = await tx.query<{ claimed: number }>({
    name: "kp_usage_insert",
    text: INSERT,
    values: [
      tx.scope.tenant,
      column((event) => event.eventId),
      column((event) => event.meter),
      column((event) => event.quantity),
      column((event) => (event.eventTime === undefined ? now : new Date(event.eventTime))),
      column((event) => event.subject.agentId),
      column((event) => event.subject.userId),
      column((event) => event.subject.sessionId),
      column((event) => JSON.stringify(event.dimensions)),
      events.map(({ hash }) => hash),
      now,
    ],
  })
  return rows[0]?.claimed ?? 0
}
