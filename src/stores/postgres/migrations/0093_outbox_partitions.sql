-- The outbox by day of creation. What is done goes row by row, for a claim must not walk over it; a day goes as a whole, with the
-- space that a backlog has left in it, and the few entries that are still in it then move to the default partition.

-- A claim looks into every partition, so there should be few; and LIKE does not copy everything.
alter table partition_rules add column early interval, add column settings text not null default '';
comment on column partition_rules.early is 'How long before its time a partition is made at most; null: as long as is asked for.';
comment on column partition_rules.settings is 'Storage parameters of each partition.';

-- As before, with the storage parameters of the rule.
create or replace function partition_make(rule partition_rules, first_day date, end_day date) returns void language plpgsql
set search_path = keelplane, pg_temp as $$
declare
  name constant text := rule.parent || to_char(first_day, case rule.unit when 'day' then '"_p"YYYYMMDD' else '"_p"YYYYMM' end);
  columns text;
  guard record;
begin
  execute format('create table %I (like %I including all excluding identity)%s', name, rule.parent,
    case when rule.settings <> '' then format(' with (%s)', rule.settings) end);
  perform partition_protect(name::regclass);
  -- A trigger for rows comes with the attachment; one for whole statements does not.
  for guard in select t.tgname, t.tgfoid::regproc as refuses from pg_trigger t
    where t.tgrelid = rule.parent::regclass and not t.tgisinternal and (t.tgtype & 1) = 0 and (t.tgtype & 32) <> 0
  loop
    execute format('create trigger %I before truncate on %I for each statement execute function %s()',
      guard.tgname, name, guard.refuses);
  end loop;
  select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns from pg_attribute a
    where a.attrelid = rule.parent::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
  -- A row that came between the move and the attachment would undo both.
  execute format('lock table %I in share row exclusive mode', rule.parent || '_rest');
  perform set_config('keelplane.tenant', '*', true), set_config('keelplane.partition_move', 'on', true);
  execute format('with moved as (delete from %I where %I >= %L and %I < %L returning %s)
      insert into %I (%s) overriding system value select %s from moved',
    rule.parent || '_rest', rule.key, first_day, rule.key, end_day, columns, name, columns, columns);
  perform set_config('keelplane.partition_move', '', true);
  execute format('alter table %I attach partition %I for values from (%L) to (%L)', rule.parent, name, first_day, end_day);
  insert into partitions values (rule.parent, name, first_day, end_day);
end $$;

-- As before, but no earlier than the rule says.
drop function partitions_make_next(date, integer);
create function partitions_make_next(at timestamptz, ahead integer) returns boolean language plpgsql security definer
set search_path = keelplane, pg_temp set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
  rule partition_rules;
  step interval;
  start date;
  crowded boolean;
  tenant constant text := current_setting('keelplane.tenant', true);
begin
  -- Daemons that do this at the same time would only fail each other.
  perform pg_advisory_xact_lock(70, 0);
  for rule in select * from partition_rules order by parent loop
    step := ('1 ' || rule.unit)::interval;
    for start in select d::date from generate_series(date_trunc(rule.unit, at::timestamp),
      least(date_trunc(rule.unit, at::timestamp) + least(greatest(ahead, 0), 400) * step, at::timestamp + rule.early), step) as d
    loop
      continue when exists (select from partitions p where p.parent = rule.parent and p.upto > start
        and (p.since is null or p.since < start + step));
      -- Moving so many would keep writers waiting: they stay where they are.
      perform set_config('keelplane.tenant', '*', true);
      execute format('select count(*) > 10000 from (select from %I where %I >= %L and %I < %L limit 10001) r',
        rule.parent || '_rest', rule.key, start, rule.key, (start + step)::date) into crowded;
      continue when crowded;
      perform partition_make(rule, start, (start + step)::date);
      perform set_config('keelplane.tenant', coalesce(tenant, ''), true);
      return true;
    end loop;
  end loop;
  perform set_config('keelplane.tenant', coalesce(tenant, ''), true);
  return false;
end $$;
revoke all on function partitions_make_next(timestamptz, integer) from public;
grant execute on function partitions_make_next(timestamptz, integer) to keelplane_app;

alter table outbox rename to outbox_before;
alter index outbox_due rename to outbox_before_due;
alter index outbox_held rename to outbox_before_held;
alter index outbox_parked rename to outbox_before_parked;
alter index outbox_keys rename to outbox_before_keys;
alter table outbox_before drop constraint outbox_pkey;

create table outbox (like outbox_before including defaults including constraints including storage)
  partition by range (created_at);
-- The order of ids goes on where it was.
do $$
declare
  last bigint;
begin
  select s.last_value into last from pg_sequences s
    where format('%I.%I', s.schemaname, s.sequencename)::regclass
      = pg_get_serial_sequence('keelplane.outbox_before', 'id')::regclass;
  alter table keelplane.outbox_before alter column id drop identity;
  execute format('alter table keelplane.outbox alter column id add generated always as identity (start with %s)',
    coalesce(last, 0) + 1);
end $$;
alter table outbox add primary key (id, created_at);
create index outbox_due on outbox (topic, id) where parked_at is null;
create index outbox_held on outbox (topic, held_until) where parked_at is null and held_until is not null;
create index outbox_parked on outbox (topic, id) where parked_at is not null;
create index outbox_keys on outbox (tenant, topic, key, id);
select protect('outbox');

select partition_table('outbox', 'day', 'created_at', 'own');
update partition_rules set early = '1 hour', settings = 'autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000' where parent = 'outbox';
alter table outbox_rest set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 10000);

-- What is owed already stays where it lies: one partition up to the day after its newest entry.
do $$
declare
  newest timestamptz;
  upto date;
begin
  perform set_config('keelplane.tenant', '*', true);
  select max(created_at) into newest from keelplane.outbox_before;
  if newest is null then
    drop table keelplane.outbox_before;
    return;
  end if;
  upto := (greatest(newest, now()) at time zone 'UTC')::date + 1;
  perform keelplane.partition_protect('keelplane.outbox_before');
  execute format('alter table keelplane.outbox attach partition keelplane.outbox_before
    for values from (minvalue) to (%L)', upto::timestamp at time zone 'UTC');
  insert into keelplane.partitions values ('outbox', 'outbox_before', null, upto);
end $$;

-- Leases entries of a topic; OutboxStore.claim has the rules. Claims of a topic come one after the other, or two of them could each take
-- entries of one key: each statement here sees what was committed until it began. Order is kept by leaving whole keys alone and by
-- walking along the ids: of a key always the first that are left. No place is remembered, so an entry that is committed late, below
-- others that are done already, is simply found. The settings keep a planner without statistics from reading and sorting all there
-- is, and from planning anew each time because of the partitions.
create function outbox_claim(of_topic text, at timestamptz, most bigint, most_bytes bigint, lease interval)
returns setof outbox language plpgsql set enable_seqscan = off set enable_sort = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan as $$
declare
  clock timestamptz;
  ids bigint[];
  bytes bigint;
  first timestamptz;
  last timestamptz;
  number bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended('keelplane outbox ' || of_topic, 0));
  -- Waiting for the lock must not come off the lease.
  clock := coalesce(at, clock_timestamp());
  select array_agg(d.id), sum(octet_length(d.payload)), min(d.created_at), max(d.created_at) into ids, bytes, first, last
    from (select o.id, o.created_at, o.payload from keelplane.outbox o
      where o.topic = of_topic and o.parked_at is null and (o.tenant, o.key) not in (
        select h.tenant, h.key from keelplane.outbox h
        where h.topic = of_topic and h.parked_at is null and h.held_until is not null and h.held_until > clock)
      order by o.id limit most) d;
  if ids is null then return; end if;
  if bytes > most_bytes then
    select array_agg(s.id) into ids
      from (select o.id, sum(octet_length(o.payload)) over so_far as total, row_number() over so_far as place
        from keelplane.outbox o where o.id = any (ids) and o.created_at >= first and o.created_at <= last
        window so_far as (order by o.id)) s
      where s.place = 1 or s.total <= most_bytes;
  end if;
  number := nextval('keelplane.outbox_fences');
  return query update keelplane.outbox o set fence = number, held_until = clock + lease
    where o.id = any (ids) and o.created_at >= first and o.created_at <= last returning o.*;
end $$;
revoke all on function outbox_claim(text, timestamptz, bigint, bigint, interval) from public;
grant execute on function outbox_claim(text, timestamptz, bigint, bigint, interval) to keelplane_app;

-- Removes entries of a batch that are done, and answers how many. Several may settle at once, but none while a claim looks, which must
-- not see one entry of a key as it was and the next as it is. The entries were made between `since` and `upto`, exclusive.
create function outbox_done(of_topic text, number bigint, ids bigint[], since timestamptz, upto timestamptz) returns bigint
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  gone bigint;
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('keelplane outbox ' || of_topic, 0));
  delete from keelplane.outbox o where o.id = any (ids) and o.fence = number and o.created_at >= since and o.created_at < upto;
  get diagnostics gone = row_count;
  return gone;
end $$;
revoke all on function outbox_done(text, bigint, bigint[], timestamptz, timestamptz) from public;
grant execute on function outbox_done(text, bigint, bigint[], timestamptz, timestamptz) to keelplane_app;

-- Drops the oldest day of the outbox that ended by `before` and answers whether it did. What is still in it, parked or waiting for a
-- target that is away, moves to the default partition, ids, leases and all; a day with more than a thousand of those stays.
create function outbox_drop_day(before date) returns boolean
language plpgsql security definer set search_path = keelplane, pg_temp set timezone = 'UTC' set lock_timeout = '250ms' as $$
declare
  most constant integer := 1000;
  victim text;
  columns text;
  crowded boolean;
begin
  if current_setting('keelplane.tenant', true) is distinct from '*' then
    raise exception 'partitions belong to the platform' using errcode = '42501';
  end if;
  for victim in select p.name from partitions p
    where p.parent = 'outbox' and p.upto <= least(before, current_date) order by p.upto for update skip locked
  loop
    -- The first look keeps nobody waiting. Entries may come until there are the locks, in the order that statements take them.
    execute format('select count(*) > %s from (select from %I limit %s) r', most, victim, most + 1) into crowded;
    continue when crowded;
    lock table only outbox in access exclusive mode;
    execute format('lock table %I in access exclusive mode', victim);
    execute format('select count(*) > %s from (select from %I limit %s) r', most, victim, most + 1) into crowded;
    continue when crowded;
    execute format('alter table outbox detach partition %I', victim);
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into columns from pg_attribute a
      where a.attrelid = 'outbox'::regclass and a.attnum > 0 and not a.attisdropped;
    execute format('insert into outbox (%s) overriding system value select %s from %I', columns, columns, victim);
    execute format('drop table %I', victim);
    delete from partitions p where p.name = victim;
    return true;
  end loop;
  return false;
end $$;
revoke all on function outbox_drop_day(date) from public;
grant execute on function outbox_drop_day(date) to keelplane_app;
