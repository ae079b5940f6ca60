-- The audit log. Records only ever grow: the daemon's role may insert and read them, a trigger refuses everything else even
-- to the owner, and retention takes whole days through one function.
create table audit_records (
  tenant          text        not null,
  -- UTC day of recording and the gapless place in it.
  day             date        not null,
  seq             bigint      not null check (seq > 0),
  id              text        not null collate "C",
  time            timestamptz not null,
  recorded_at     timestamptz not null,
  actor           text        not null collate "C",
  action          text        not null collate "C",
  resource_type   text        not null collate "C",
  resource_id     text        not null collate "C",
  outcome         text        not null check (outcome in ('success', 'failure', 'denied')),
  ip_address      text        not null,
  user_agent      text        not null,
  correlation_id  text        not null collate "C",
  -- Canonical JSON (sorted keys), as text because the hash covers these very characters.
  details         text        not null,
  prev_hash       bytea       not null,
  hash            bytea       not null,
  primary key (tenant, day, seq)
);
create index audit_by_time on audit_records (tenant, time desc, day desc, seq desc);
create index audit_by_actor on audit_records (tenant, actor, time desc);
create index audit_by_resource on audit_records (tenant, resource_type, resource_id, time desc);
create index audit_by_action on audit_records (tenant, action, time desc);
select protect('audit_records', 'select, insert');

-- The head of every day's chain. The row stays when retention takes the day's records: it anchors the next day.
create table audit_days (
  tenant      text        not null,
  day         date        not null,
  records     bigint      not null,
  -- Head of the day before (zeros for the first day), and of this day.
  prev_hash   bytea       not null,
  head        bytea       not null,
  retired_at  timestamptz,
  primary key (tenant, day)
);
select protect('audit_days', 'select, insert, update');

-- One row per tenant: its newest day. A recorder locks it, so that records of one tenant are chained one after the other.
create table audit_chains (
  tenant  text  not null primary key,
  day     date  not null,
  records bigint not null,
  prev_hash bytea not null,
  head    bytea not null
);
select protect('audit_chains', 'select, insert, update');

create function audit_refuse_change() returns trigger
language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('keelplane.audit_retention', true) = old.day::text then
    return old;
  end if;
  raise exception 'audit records are immutable' using errcode = '42501';
end $$;
create trigger audit_immutable before update or delete on audit_records
  for each row execute function audit_refuse_change();
create function audit_refuse_truncate() returns trigger
language plpgsql as $$
begin
  raise exception 'audit records are immutable' using errcode = '42501';
end $$;
create trigger audit_no_truncate before truncate on audit_records
  for each statement execute function audit_refuse_truncate();

-- Removes the records of up to max_days of the oldest tenant days before `cutoff` and answers how many days went. It runs
-- with the owner's rights, since the daemon's role cannot delete, and never takes what is younger than seven years by the
-- server's own clock, so that no configuration and no stolen connection can shorten the record.
create function audit_retire_days(cutoff date, max_days integer) returns integer
language plpgsql security definer set search_path = keelplane, pg_temp as $$
declare
  latest constant date := least(cutoff, ((now() at time zone 'utc') - interval '7 years')::date);
  gone integer := 0;
  victim record;
begin
  for victim in
    select d.tenant, d.day from audit_days d
    where d.day < latest and d.retired_at is null
      -- The owner may be exempt from row-level security, so the caller's tenant is asked for once more.
      and current_setting('keelplane.tenant', true) in (d.tenant, '*')
      -- The newest day of a tenant stays open for its recorder.
      and not exists (select from audit_chains c where c.tenant = d.tenant and c.day = d.day)
    order by d.day, d.tenant limit max_days for update skip locked
  loop
    perform set_config('keelplane.audit_retention', victim.day::text, true);
    delete from audit_records r where r.tenant = victim.tenant and r.day = victim.day;
    update audit_days d set retired_at = now() where d.tenant = victim.tenant and d.day = victim.day;
    gone := gone + 1;
  end loop;
  perform set_config('keelplane.audit_retention', '', true);
  return gone;
end $$;
revoke all on function audit_retire_days(date, integer) from public;
grant execute on function audit_retire_days(date, integer) to keelplane_app;
