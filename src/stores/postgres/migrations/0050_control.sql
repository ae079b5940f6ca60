-- Who may do what, and configuration. Ids are compared and ordered byte for byte, hence the "C" collation.

-- Tenants belong to the platform itself: the column that row-level security looks at is always '*'.
create table tenants (
  tenant        text        not null default '*' check (tenant = '*'),
  id            text        collate "C" not null,
  display_name  text        not null,
  labels        jsonb       not null,
  status        text        not null check (status in ('ACTIVE', 'SUSPENDED')),
  plan          text        not null,
  -- Numbers as strings, for they may be larger than a double holds.
  limits        jsonb       not null,
  revision      bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
select protect('tenants');

create table users (
  tenant        text        not null,
  id            text        collate "C" not null,
  display_name  text        not null,
  email         text        not null,
  labels        jsonb       not null,
  disabled      boolean     not null,
  revision      bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
select protect('users');

create table agents (
  tenant        text        not null,
  id            text        collate "C" not null,
  display_name  text        not null,
  description   text        not null,
  -- '' for none.
  user_id       text        collate "C" not null,
  labels        jsonb       not null,
  metadata      jsonb       not null,
  disabled      boolean     not null,
  revision      bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
create index agents_by_user on agents (tenant, user_id) where user_id <> '';
select protect('agents');

-- Tenant '*' holds the platform's own keys.
create table api_keys (
  tenant                text        not null,
  id                    text        collate "C" not null,
  name                  text        not null,
  permissions           text[]      not null,
  -- '' for none.
  user_id               text        collate "C" not null,
  agent_id              text        collate "C" not null,
  -- SHA-256 of the token; the token itself is nowhere.
  secret_hash           bytea       not null,
  previous_hash         bytea,
  previous_expire_time  timestamptz,
  create_time           timestamptz not null,
  expire_time           timestamptz,
  revoke_time           timestamptz,
  revision              bigint      not null,
  primary key (tenant, id)
);
-- A credential is looked up before its tenant is known.
create index api_keys_by_id on api_keys (id);
create index api_keys_by_user on api_keys (tenant, user_id) where user_id <> '';
create index api_keys_by_agent on api_keys (tenant, agent_id) where agent_id <> '';
select protect('api_keys');

create table roles (
  tenant        text        not null,
  id            text        collate "C" not null,
  display_name  text        not null,
  description   text        not null,
  permissions   text[]      not null,
  revision      bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
select protect('roles');

create table role_assignments (
  tenant        text        not null,
  subject_kind  text        collate "C" not null check (subject_kind in ('user', 'agent', 'key')),
  subject_id    text        collate "C" not null,
  role_id       text        collate "C" not null,
  -- '' for everywhere.
  resource      text        collate "C" not null,
  create_time   timestamptz not null,
  creator       text        not null,
  primary key (tenant, subject_kind, subject_id, role_id, resource),
  foreign key (tenant, role_id) references roles (tenant, id) on delete cascade
);
create index role_assignments_by_role on role_assignments (tenant, role_id, subject_kind, subject_id, resource);
select protect('role_assignments');
