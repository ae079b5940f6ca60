-- Appends of many callers in one statement.

-- Which of the events `ids`, each in its stream of `streams`, there are. A planner without statistics, or with those of small
-- tenants, might read a stream or all that a tenant has; this leaves it nothing but the index that is in the order asked for.
create function events_known(for_tenant text, streams text[], ids uuid[])
returns table (stream text, event_id uuid, revision bigint, recorded_at timestamptz)
language plpgsql stable
set enable_seqscan = off set enable_sort = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
  return query select e.stream, e.event_id, e.revision, e.recorded_at
    from unnest(streams, ids) as k(stream, event_id)
    cross join lateral (select e.stream, e.event_id, e.revision, e.recorded_at from keelplane.events e
      where e.tenant = for_tenant and (e.event_id, e.stream) >= (k.event_id, k.stream)
      order by e.event_id, e.stream limit 1) e
    where e.event_id = k.event_id and e.stream = k.stream;
end $$;

-- Appends to those of the streams `names` whose head is as in `wanted`: a revision, -1 for a stream that exists, null for any. Not to
-- a deleted one, nor to one that has an event of `given_ids`, each in its stream of `given_streams`, already.
-- What follows has an entry for each event: its stream's place in `names`, its own place in what its stream gets, and its columns,
-- of which an array that ends early leaves the rest as they are by default. `counts` is how many events each stream gets.
-- Answers each stream's head before this, -1 where it is deleted, whether its events were appended, and when they were recorded, in
-- milliseconds since the epoch, where that is later than `at`.
-- Takes the streams' locks before it gets a transaction id, on which the feed's order rests, and leaves the planner as little choice
-- as the function above.
create function append_events(
  for_tenant text, at timestamptz, names text[], wanted bigint[], counts int[], given_streams text[], given_ids uuid[],
  event_streams int[], event_places int[], event_ids uuid[], types text[], jsons text[], bins bytea[], content_types text[],
  metadatas text[], state_patches text[], correlation_ids text[], causation_ids text[], trace_parents text[],
  occurred_ats timestamptz[], sizes int[],
  out heads bigint[], out appended boolean[], out later bigint[])
language plpgsql
set enable_seqscan = off set enable_sort = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  recorded timestamptz[];
  known text;
begin
  perform pg_advisory_xact_lock(k.key) from (
    select distinct hashtextextended(for_tenant || '/' || n.name, 20) as key from unnest(names) as n(name) order by 1) k;

  select array_agg(f.head), array_agg(f.head >= 0 and (f.wanted is null or f.wanted = f.head or (f.wanted = -1 and f.head > 0))),
    array_agg(f.recorded), array_agg(case when f.recorded > at then (extract(epoch from f.recorded) * 1000)::bigint end)
  into heads, appended, recorded, later
  from (
    select wanted[n.place] as wanted, greatest(s.recorded_at, at) as recorded,
      case when s.deleted_at is not null then -1 else coalesce(s.head, 0) end as head
    from generate_series(1, cardinality(names)) as n(place)
    left join lateral (select s.stream, s.head, s.recorded_at, s.deleted_at from keelplane.streams s
      where s.tenant = for_tenant and s.stream >= names[n.place] order by s.stream limit 1) s on s.stream = names[n.place]
    order by n.place) f;

  if cardinality(given_ids) > 0 then
    for known in select k.stream from keelplane.events_known(for_tenant, given_streams, given_ids) as k loop
      appended[array_position(names, known)] := false;
    end loop;
  end if;

  insert into keelplane.events (tenant, stream, revision, event_id, type, json, bin, content_type, metadata, state_patch,
    correlation_id, causation_id, trace_parent, occurred_at, recorded_at, size)
  select for_tenant, names[event_streams[n]], heads[event_streams[n]] + event_places[n], event_ids[n], types[n], jsons[n], bins[n],
    coalesce(content_types[n], ''), metadatas[n], state_patches[n], coalesce(correlation_ids[n], ''),
    coalesce(causation_ids[n], ''), coalesce(trace_parents[n], ''), coalesce(occurred_ats[n], recorded[event_streams[n]]),
    recorded[event_streams[n]], sizes[n]
  from generate_series(1, cardinality(event_ids)) as n
  where appended[event_streams[n]];

  insert into keelplane.streams as s (tenant, stream, head, created_at, recorded_at)
  select for_tenant, names[n], heads[n] + counts[n], recorded[n], recorded[n]
  from generate_series(1, cardinality(names)) as n
  where appended[n]
  on conflict (tenant, stream) do update set head = excluded.head, recorded_at = excluded.recorded_at;
end $$;
