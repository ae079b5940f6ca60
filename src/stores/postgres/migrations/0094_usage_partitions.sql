-- Usage by month of the event, so that what retention takes is dropped. An id must be single over all months: ids have a table of their
-- own, which is not cut. What a dropped month came to stays, as a sum per tenant and meter.

select set_config('keelplane.tenant', '*', true);

create table usage_ids (
  tenant     text        not null,
  event_id   text        collate "C" not null,
  -- Of usage_events: the same id with another is refused.
  body_hash  bytea       not null,
  -- The later one of the event's time and the time of recording: the id is kept as long as what is of this time.
  latest     timestamptz not null,
  primary key (tenant, event_id)
);
create index usage_ids_latest on usage_ids using brin (latest);
select protect('usage_ids');
insert into usage_ids select tenant, event_id, body_hash, greatest(event_time, record_time) from usage_events;

create table usage_months (
  tenant    text    not null,
  meter     text    collate "C" not null,
  -- Its first day, of UTC.
  month     date    not null,
  quantity  numeric not null,
  -- The largest quantity of one event.
  largest   numeric not null,
  events    bigint  not null,
  primary key (tenant, meter, month)
);
select protect('usage_months');

alter table usage_events rename to usage_events_before;
alter table usage_events_before drop constraint usage_events_pkey;
drop index usage_events_by_time;

create table usage_events (like usage_events_before including defaults including constraints including storage)
  partition by range (event_time);
-- In the order of usage of one meter by time. The id is in it for the sake of the key only.
alter table usage_events add primary key (tenant, meter, event_time, event_id);
select protect('usage_events');
select partition_table('usage_events', 'month', 'event_time', 'own');
-- The only partitions that have several months.
create index usage_events_rest_time on usage_events_rest using brin (event_time);

-- What was recorded before stays where it lies: one partition up to the end of this month. The little that is said to happen later moves.
do $$
declare
  upto constant date := date_trunc('month', now() at time zone 'UTC') + interval '1 month';
begin
  if not exists (select from keelplane.usage_events_before) then
    drop table keelplane.usage_events_before;
    return;
  end if;
  execute format('with late as (delete from keelplane.usage_events_before where event_time >= %L returning *)
    insert into keelplane.usage_events select * from late', upto::timestamp at time zone 'UTC');
  perform keelplane.partition_protect('keelplane.usage_events_before');
  execute format('alter table keelplane.usage_events attach partition keelplane.usage_events_before
    for values from (minvalue) to (%L)', upto::timestamp at time zone 'UTC');
  create index usage_events_before_time on keelplane.usage_events_before using brin (event_time);
  insert into keelplane.partitions values ('usage_events', 'usage_events_before', null, upto);
end $$;

-- Takes what was used before the month of `before` out of the events, adds it to the sums of its months, and forgets ids of that time. One
-- step: a partition as a whole, or up to `most` rows of those that have several months, or as many ids. Answers how much it took.
-- Nothing of this month goes, whatever is asked for.
create function usage_retire(before date, most integer) returns bigint
language plpgsql security definer set search_path = keelplane, pg_temp set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
  cutoff constant date := date_trunc('month', least(before, current_date)::timestamp);
  -- What is in `gone`, by month; a partition's rows or some of them.
  add_up constant text := 'insert into usage_months as m (tenant, meter, month, quantity, largest, events)
      select g.tenant, g.meter, date_trunc(''month'', g.event_time)::date, sum(g.quantity), max(g.quantity), count(*)
      from gone g group by 1, 2, 3 order by 1, 2, 3
      on conflict (tenant, meter, month) do update set quantity = m.quantity + excluded.quantity,
        largest = greatest(m.largest, excluded.largest), events = m.events + excluded.events
      returning 1';
  victim text;
  taken bigint;
begin
  if current_setting('keelplane.tenant', true) is distinct from '*' then
    raise exception 'partitions belong to the platform' using errcode = '42501';
  end if;
  select p.name into victim from partitions p
    where p.parent = 'usage_events' and p.upto <= cutoff order by p.upto limit 1 for update skip locked;
  if found then
    -- Keeps out what is recorded late for these months, and nothing else while it adds up.
    execute format('lock table %I in share mode', victim);
    execute format('select count(*) from %I', victim) into taken;
    execute format('with gone as (select * from %I), added as (%s) select count(*) from added', victim, add_up);
    execute format('drop table %I', victim);
    delete from partitions p where p.name = victim;
    return greatest(taken, 1);
  end if;
  for victim in select 'usage_events_rest' union all select p.name from partitions p
    where p.parent = 'usage_events' and p.since is null
  loop
    execute format('with gone as (delete from %I where ctid = any (array(
          select e.ctid from %I e where e.event_time < %L limit %s)) returning *),
        added as (%s) select count(*) from gone', victim, victim, cutoff, most, add_up) into taken;
    if taken > 0 then return taken; end if;
  end loop;
  delete from usage_ids where ctid = any (array(select i.ctid from usage_ids i where i.latest < cutoff limit most));
  get diagnostics taken = row_count;
  return taken;
end $$;
revoke all on function usage_retire(date, integer) from public;
grant execute on function usage_retire(date, integer) to keelplane_app;
