-- Event streams: heads, events, snapshots.

-- One row per stream that ever had an event; a deleted one stays as a tombstone.
create table streams (
  tenant          text        not null,
  stream          text        collate "C" not null,
  category        text        collate "C" not null generated always as (split_part(stream, '-', 1)) stored,
  -- Revision of the last event; the first has 1.
  head            bigint      not null,
  -- Events below it are hidden.
  first_revision  bigint      not null default 1,
  -- Events below it are reclaimed.
  swept_before    bigint      not null default 1,
  created_at      timestamptz not null,
  -- When the event at head was recorded: the next one is never recorded earlier.
  recorded_at     timestamptz not null,
  deleted_at      timestamptz,
  primary key (tenant, stream)
) with (fillfactor = 70);
create index streams_category on streams (tenant, category, stream);
create index streams_unswept on streams (tenant, stream) where swept_before < first_revision;
select protect('streams', 'select, insert, update');

-- JSON is kept as text: it comes back as it was sent, and U+0000 inside of strings is allowed.
create table events (
  tenant          text        not null,
  stream          text        collate "C" not null,
  revision        bigint      not null,
  event_id        uuid        not null,
  category        text        collate "C" not null generated always as (split_part(stream, '-', 1)) stored,
  type            text        collate "C" not null,
  json            text,
  bin             bytea,
  content_type    text        not null,
  metadata        text,
  state_patch     text,
  correlation_id  text        not null,
  causation_id    text        not null,
  trace_parent    text        not null,
  occurred_at     timestamptz not null,
  recorded_at     timestamptz not null,
  -- Bytes, roughly; reads cut their pages by it.
  size            integer     not null,
  -- The feed is ordered by (txid, position) and read only below every transaction that is still open. A writer takes its
  -- streams' advisory locks before it gets a transaction id, so that within a stream this is the order of revisions.
  txid            xid8        not null default pg_current_xact_id(),
  position        bigint      not null generated always as identity,
  primary key (tenant, stream, revision)
);
-- In this order, so that it is never taken for a look-up by (stream, revision).
create unique index events_ids on events (tenant, event_id, stream);
create index events_feed on events (tenant, txid, position);
create index events_category on events (tenant, category, txid, position);
select protect('events', 'select, insert, delete');

-- States at a revision. projection '' is the stream's own state, folded by the daemon; others are callers'.
create table snapshots (
  tenant       text        not null,
  stream       text        collate "C" not null,
  projection   text        collate "C" not null,
  revision     bigint      not null,
  state        text        not null,
  created_at   timestamptz not null,
  primary key (tenant, stream, projection, revision)
);
select protect('snapshots');

-- The next events of the feed, of all streams or of one category, and its newest event. Reads go only below every transaction
-- that is still open. A planner without statistics takes the feed for a handful of rows and sorts it as a whole; these
-- functions leave it nothing but the index that is in order already.
create function feed_scan(for_tenant text, after_txid xid8, after_position bigint, only_category text, at_most bigint)
returns table (txid xid8, "position" bigint, stream text, revision bigint, type text, recorded_at timestamptz, size integer)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
#variable_conflict use_column
begin
  if only_category is null then
    return query select e.txid, e.position, e.stream, e.revision, e.type, e.recorded_at, e.size from keelplane.events e
      where e.tenant = for_tenant and (e.txid, e.position) > (after_txid, after_position)
        and e.txid < pg_snapshot_xmin(pg_current_snapshot())
      order by e.txid, e.position limit at_most;
  else
    return query select e.txid, e.position, e.stream, e.revision, e.type, e.recorded_at, e.size from keelplane.events e
      where e.tenant = for_tenant and e.category = only_category and (e.txid, e.position) > (after_txid, after_position)
        and e.txid < pg_snapshot_xmin(pg_current_snapshot())
      order by e.txid, e.position limit at_most;
  end if;
end $$;

create function feed_end(for_tenant text) returns table (txid xid8, "position" bigint)
language plpgsql stable
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
#variable_conflict use_column
begin
  return query select e.txid, e.position from keelplane.events e
    where e.tenant = for_tenant and e.txid < pg_snapshot_xmin(pg_current_snapshot())
    order by e.txid desc, e.position desc limit 1;
end $$;

-- The last revision recorded at or before a time, by bisection: recorded_at never falls along revisions. Answers
-- first_revision - 1 where all readable events are later.
create function stream_revision_at(for_tenant text, name text, at timestamptz) returns bigint
language plpgsql stable as $$
declare
  low bigint;
  high bigint;
  middle bigint;
  head_at timestamptz;
  middle_at timestamptz;
begin
  select s.first_revision - 1, s.head, s.recorded_at into low, high, head_at
    from keelplane.streams s where s.tenant = for_tenant and s.stream = name;
  if head_at <= at then return high; end if;
  while low < high loop
    middle := (low + high + 1) / 2;
    select e.recorded_at into middle_at
      from keelplane.events e where e.tenant = for_tenant and e.stream = name and e.revision = middle;
    if middle_at is null or middle_at <= at then low := middle; else high := middle - 1; end if;
  end loop;
  return low;
end $$;
