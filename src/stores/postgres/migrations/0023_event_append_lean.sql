-- Appends with less work of the server. What the functions do and answer is as 0022_event_append.sql says.

-- A range that ends is read no further than its one entry, while without an end the rest of the page is looked at.
create or replace function events_known (for_tenant text, streams text[], ids uuid[])
returns table (stream text, event_id uuid, revision bigint, recorded_at timestamptz)
language plpgsql stable
set enable_seqscan = off set enable_sort = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
begin
  return query select e.stream, e.event_id, e.revision, e.recorded_at
    from unnest(streams, ids) as k(stream, event_id)
    cross join lateral (select e.stream, e.event_id, e.revision, e.recorded_at from keelplane.events e
      where e.tenant = for_tenant and (e.event_id, e.stream) >= (k.event_id, k.stream) and e.event_id <= k.event_id
      order by e.event_id, e.stream limit 1) e
    where e.event_id = k.event_id and e.stream = k.stream;
end $$;

-- The category comes from a trigger on inserts, for with a generated column the server reads its expression anew for each row that an
-- update leaves the name of.
alter table streams alter column category drop expression;

create function stream_category() returns trigger language plpgsql as $$
begin
  new.category := split_part(new.stream, '-', 1);
  return new;
end $$;

create trigger streams_category before insert on streams for each row execute function stream_category();

-- Streams that there are get their new heads by an update of the rows at the places that were just found, which neither looks for
-- them again, as an upsert would, nor has anything to choose from. A row that was changed meanwhile by somebody without the
-- stream's lock is not found there: the transaction then fails as one that lost a race, and runs again. One stream alone, which most
-- callers have, takes two statements less.
create or replace function append_events(
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
  rows_at tid[];
  known text;
  updated int := 0;
  inserted int := 0;
begin
  if cardinality(names) = 1 then
    perform pg_advisory_xact_lock(hashtextextended(for_tenant || '/' || names[1], 20));
    if cardinality(given_ids) = 0 then
      update keelplane.streams s set head = s.head + counts[1], recorded_at = greatest(s.recorded_at, at)
      where s.ctid = (select s.ctid from keelplane.streams s
          where s.tenant = for_tenant and s.stream >= names[1] and s.stream <= names[1] order by s.stream limit 1)
        and s.deleted_at is null and (wanted[1] is null or wanted[1] = s.head or (wanted[1] = -1 and s.head > 0))
      returning array[s.head - counts[1]], array[true], array[s.recorded_at],
        array[case when s.recorded_at > at then (extract(epoch from s.recorded_at) * 1000)::bigint end]
      into heads, appended, recorded, later;
    end if;
  else
    perform pg_advisory_xact_lock(k.key) from (
      select distinct hashtextextended(for_tenant || '/' || n.name, 20) as key from unnest(names) as n(name) order by 1) k;
  end if;

  if heads is null then
    select array_agg(f.head), array_agg(f.head >= 0 and (f.wanted is null or f.wanted = f.head or (f.wanted = -1 and f.head > 0))),
      array_agg(f.recorded), array_agg(case when f.recorded > at then (extract(epoch from f.recorded) * 1000)::bigint end),
      array_agg(f.row_at)
    into heads, appended, recorded, later, rows_at
    from (
      select wanted[n.place] as wanted, greatest(s.recorded_at, at) as recorded, s.row_at,
        case when s.deleted_at is not null then -1 else coalesce(s.head, 0) end as head
      from generate_series(1, cardinality(names)) as n(place)
      left join lateral (select s.ctid as row_at, s.stream, s.head, s.recorded_at, s.deleted_at from keelplane.streams s
        where s.tenant = for_tenant and s.stream >= names[n.place] and s.stream <= names[n.place]
        order by s.stream limit 1) s on s.stream = names[n.place]
      order by n.place) f;

    if cardinality(given_ids) > 0 then
      for known in select k.stream from keelplane.events_known(for_tenant, given_streams, given_ids) as k loop
        appended[array_position(names, known)] := false;
      end loop;
    end if;

    if cardinality(array_remove(rows_at, null)) > 0 then
      update keelplane.streams s set head = heads[n] + counts[n], recorded_at = recorded[n]
      from generate_series(1, cardinality(names)) as n
      where appended[n] and s.ctid = rows_at[n];
      get diagnostics updated = row_count;
    end if;
    if updated < cardinality(array_positions(appended, true)) then
      insert into keelplane.streams as s (tenant, stream, head, created_at, recorded_at)
      select for_tenant, names[n], heads[n] + counts[n], recorded[n], recorded[n]
      from generate_series(1, cardinality(names)) as n
      where appended[n] and rows_at[n] is null
      on conflict (tenant, stream) do nothing;
      get diagnostics inserted = row_count;
      if updated + inserted < cardinality(array_positions(appended, true)) then
        raise exception using errcode = 'serialization_failure', message = 'a stream was changed meanwhile';
      end if;
    end if;
  end if;

  insert into keelplane.events (tenant, stream, revision, event_id, type, json, bin, content_type, metadata, state_patch,
    correlation_id, causation_id, trace_parent, occurred_at, recorded_at, size)
  select for_tenant, names[event_streams[n]], heads[event_streams[n]] + event_places[n], event_ids[n], types[n], jsons[n], bins[n],
    coalesce(content_types[n], ''), metadatas[n], state_patches[n], coalesce(correlation_ids[n], ''),
    coalesce(causation_ids[n], ''), coalesce(trace_parents[n], ''), coalesce(occurred_ats[n], recorded[event_streams[n]]),
    recorded[event_streams[n]], sizes[n]
  from generate_series(1, cardinality(event_ids)) as n
  where appended[event_streams[n]];
end $$;
