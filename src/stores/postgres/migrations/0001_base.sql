-- The ground every other migration stands on: the role that runs statements, row-level security, idempotency records and
-- the platform's own secrets. Migrations run as the owner with search_path = keelplane, public.

-- The role of every statement the daemon runs for callers. It owns nothing, so row-level security always binds it.
do $$
begin
  if not exists (select from pg_roles where rolname = 'keelplane_app') then
    create role keelplane_app nologin nosuperuser nobypassrls nocreatedb nocreaterole;
  end if;
  -- Since PostgreSQL 16 whoever makes a role may administer it but not yet assume it, so being a member proves nothing. Where an
  -- administrator has granted the role already, there is no right to grant it again, and no need.
  begin
    execute format('grant keelplane_app to %I', current_user);
  exception when insufficient_privilege then
    if not pg_has_role(current_user, 'keelplane_app', 'member') then raise; end if;
  end;
end $$;

grant usage on schema keelplane to keelplane_app;
alter default privileges in schema keelplane grant usage on sequences to keelplane_app;

-- Puts a table with a `tenant` column behind row-level security and lets the daemon use it.
-- The setting is '' (not null) once a transaction that set it is over, hence nullif; '*' is the platform's own work.
-- The sub-selects make the planner read the setting once per statement instead of once per row.
-- privileges: leave out update and delete for tables that only grow.
create function protect(target regclass, privileges text default 'select, insert, update, delete') returns void
language plpgsql as $$
declare
  allowed constant text := '(tenant = (select nullif(current_setting(''keelplane.tenant'', true), ''''))'
    || ' or (select current_setting(''keelplane.tenant'', true)) = ''*'')';
begin
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  execute format('drop policy if exists tenant_isolation on %s', target);
  execute format('create policy tenant_isolation on %s using (%s) with check (%s)', target, allowed, allowed);
  execute format('revoke all on %s from public', target);
  execute format('grant %s on %s to keelplane_app', privileges, target);
end $$;

-- The stored answers of mutations that carried a request_id.
create table idempotency (
  tenant      text        not null,
  -- Full RPC name.
  method      text        not null,
  request_id  text        not null,
  -- The port method; one RPC may use several.
  operation   text        not null,
  -- SHA-256 of the request without its request_id.
  body_hash   bytea       not null,
  -- The result as v8.serialize writes it; null only inside the transaction that is working on it.
  result      bytea,
  created_at  timestamptz not null,
  expires_at  timestamptz not null,
  primary key (tenant, method, request_id, operation)
);
create index idempotency_expiry on idempotency (expires_at);
select protect('idempotency');

-- Secrets of the daemon itself, such as the key that seals page tokens. Tenant is always '*'.
create table platform_settings (
  tenant      text        not null default '*' check (tenant = '*'),
  key         text        not null,
  value       bytea       not null,
  created_at  timestamptz not null default now(),
  primary key (tenant, key)
);
select protect('platform_settings');
