-- Audit records by month of their day. The day is part of the primary key, so nothing is lost by cutting along it; the heads of
-- the days and the chains stay in one piece, for they outlive the records.

drop trigger audit_immutable on audit_records;
alter table audit_records rename to audit_records_before;
alter index audit_records_pkey rename to audit_records_before_pkey;
alter index audit_by_time rename to audit_before_by_time;
alter index audit_by_actor rename to audit_before_by_actor;
alter index audit_by_resource rename to audit_before_by_resource;
alter index audit_by_action rename to audit_before_by_action;

create table audit_records (like audit_records_before including defaults including constraints including storage)
  partition by range (day);
alter table audit_records add primary key (tenant, day, seq);
create index audit_by_time on audit_records (tenant, time desc, day desc, seq desc);
create index audit_by_actor on audit_records (tenant, actor, time desc);
create index audit_by_resource on audit_records (tenant, resource_type, resource_id, time desc);
create index audit_by_action on audit_records (tenant, action, time desc);
select protect('audit_records', 'select, insert');

-- A partition that is made for days which the default one has already takes them over, and nothing else may be deleted.
create or replace function audit_refuse_change() returns trigger
language plpgsql as $$
begin
  if tg_op = 'DELETE' and (current_setting('keelplane.audit_retention', true) = old.day::text
    or current_setting('keelplane.partition_move', true) = 'on') then
    return old;
  end if;
  raise exception 'audit records are immutable' using errcode = '42501';
end $$;
create trigger audit_immutable before update or delete on audit_records
  for each row execute function audit_refuse_change();
create trigger audit_no_truncate before truncate on audit_records
  for each statement execute function audit_refuse_truncate();

select partition_table('audit_records', 'month', 'day', 'own');
create trigger audit_no_truncate before truncate on audit_records_rest
  for each statement execute function audit_refuse_truncate();

-- What was recorded before stays where it lies: one partition up to the month after its newest day.
do $$
declare
  newest date;
begin
  perform set_config('keelplane.tenant', '*', true);
  select max(day) into newest from keelplane.audit_records_before;
  if newest is null then
    drop table keelplane.audit_records_before;
    return;
  end if;
  newest := date_trunc('month', newest::timestamp) + interval '1 month';
  perform keelplane.partition_protect('keelplane.audit_records_before');
  execute format('alter table keelplane.audit_records attach partition keelplane.audit_records_before
    for values from (minvalue) to (%L)', newest);
  insert into keelplane.partitions values ('audit_records', 'audit_records_before', null, newest);
end $$;

-- Drops the oldest partition of audit records that is wholly before `cutoff` and seven years by the server's own clock, and
-- answers how many days of tenants went with it, 0 for none. Their heads stay. A partition that has the newest day of a tenant stays
-- open for its recorder; audit_retire_days takes what else is in it.
create function audit_drop_partition(cutoff date) returns integer
language plpgsql security definer set search_path = keelplane, pg_temp set lock_timeout = '250ms' as $$
declare
  latest constant date := least(cutoff, ((now() at time zone 'utc') - interval '7 years')::date);
  victim record;
  gone integer;
begin
  if current_setting('keelplane.tenant', true) is distinct from '*' then
    raise exception 'partitions belong to the platform' using errcode = '42501';
  end if;
  for victim in select p.name, p.since, p.upto from partitions p
    where p.parent = 'audit_records' and p.upto <= latest order by p.upto for update of p skip locked
  loop
    -- First the locks that keep recorders out, so that no day in it can become anybody's newest meanwhile.
    lock table only audit_records in access exclusive mode;
    execute format('lock table %I in access exclusive mode', victim.name);
    continue when exists (select from audit_chains c
      where c.day < victim.upto and (victim.since is null or c.day >= victim.since));
    update audit_days d set retired_at = now()
      where d.day < victim.upto and (victim.since is null or d.day >= victim.since) and d.retired_at is null;
    get diagnostics gone = row_count;
    execute format('drop table %I', victim.name);
    delete from partitions p where p.name = victim.name;
    return greatest(gone, 1);
  end loop;
  return 0;
end $$;
revoke all on function audit_drop_partition(date) from public;
grant execute on function audit_drop_partition(date) to keelplane_app;
