-- Tables that grow, cut by time. docs/adr has which are and which are not, and why.

-- The tables that are cut, by their partitioned parent. Neither table has rows of tenants, and the daemon's role sees neither.
create table partition_rules (
  parent  text not null primary key,
  unit    text not null check (unit in ('day', 'month')),
  -- The partition key: a column of type date or timestamptz. Periods are of UTC.
  key     text not null,
  -- What may drop a partition that is past its time: 'expired' its age alone, 'empty' only that no row is left in it, 'own' a
  -- function of the table's own.
  goes    text not null check (goes in ('expired', 'empty', 'own'))
);
create table partitions (
  parent    text not null references partition_rules,
  name      text not null primary key,
  -- Null for a partition that has everything before the day in `upto`.
  since     date,
  -- Exclusive.
  upto      date not null
);
revoke all on partition_rules, partitions from public;

-- Puts a partition behind row-level security. Statements name the parent only, so the daemon's role gets no right on it.
create function partition_protect(target regclass) returns void language plpgsql as $$
begin
  perform keelplane.protect(target, 'select');
  execute format('revoke all on %s from keelplane_app', target);
end $$;

-- Registers a partitioned table, which must be protected already, and makes the partition for what no other one covers.
create function partition_table(parent text, unit text, key text, goes text) returns void language plpgsql as $$
begin
  insert into keelplane.partition_rules values (parent, unit, key, goes);
  execute format('create table keelplane.%I partition of keelplane.%I default', parent || '_rest', parent);
  perform keelplane.partition_protect(format('keelplane.%I', parent || '_rest')::regclass);
end $$;

-- Makes one partition. It is filled with what the default partition has for its time, then attached, which does not wait for
-- writers of the other partitions.
create function partition_make(rule partition_rules, first_day date, end_day date) returns void language plpgsql
set search_path = keelplane, pg_temp as $$
declare
  name constant text := rule.parent || to_char(first_day, case rule.unit when 'day' then '"_p"YYYYMMDD' else '"_p"YYYYMM' end);
  columns text;
  guard record;
begin
  execute format('create table %I (like %I including all excluding identity)', name, rule.parent);
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
revoke all on function partition_make(partition_rules, date, date) from public;

-- Makes at most one partition that is missing between the period of `today` and the one `ahead` periods later, and answers
-- whether it did: a transaction each, so that none holds its locks for long. Runs with the owner's rights.
create function partitions_make_next(today date, ahead integer) returns boolean language plpgsql security definer
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
    for start in select d::date from generate_series(date_trunc(rule.unit, today::timestamp),
      date_trunc(rule.unit, today::timestamp) + least(greatest(ahead, 0), 400) * step, step) as d
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
revoke all on function partitions_make_next(date, integer) from public;
grant execute on function partitions_make_next(date, integer) to keelplane_app;

-- Drops the oldest partition of `of` whose time ended by `before`, as far as its rule lets it go, and answers whether it did.
create function partitions_drop_next(of text, before date) returns boolean language plpgsql security definer
set search_path = keelplane, pg_temp set lock_timeout = '250ms' as $$
declare
  victim record;
  rows_left boolean := false;
begin
  if current_setting('keelplane.tenant', true) is distinct from '*' then
    raise exception 'partitions belong to the platform' using errcode = '42501';
  end if;
  for victim in select p.name, r.goes from partitions p join partition_rules r using (parent)
    where p.parent = of and r.goes in ('expired', 'empty') and p.upto <= before and p.upto <= current_date
    order by p.upto for update of p skip locked
  loop
    if victim.goes = 'empty' then
      execute format('select exists (select from %I)', victim.name) into rows_left;
      continue when rows_left;
      -- A row may have come since; with the locks, in the order that statements take them, none comes any more.
      execute format('lock table only %I in access exclusive mode', of);
      execute format('lock table %I in access exclusive mode', victim.name);
      execute format('select exists (select from %I)', victim.name) into rows_left;
      continue when rows_left;
    end if;
    execute format('drop table %I', victim.name);
    delete from partitions p where p.name = victim.name;
    return true;
  end loop;
  return false;
end $$;
revoke all on function partitions_drop_next(text, date) from public;
grant execute on function partitions_drop_next(text, date) to keelplane_app;
