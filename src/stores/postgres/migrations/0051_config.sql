-- Versioned configuration: versions are only ever added.

-- One row per tenant, locked by every write: it numbers the tenant's changes without gaps and in the order of their commits,
-- which is what a watch needs to miss nothing.
create table config_sequences (
  tenant  text   not null primary key,
  last    bigint not null
);
select protect('config_sequences');

create table config_versions (
  tenant        text        not null,
  key           text        collate "C" not null,
  version       bigint      not null,
  sequence      bigint      not null,
  -- JSON text rather than jsonb: it comes back as it was written, whatever its strings hold.
  struct_value  text,
  bytes_value   bytea,
  content_type  text        not null,
  deleted       boolean     not null,
  description   text        not null,
  author        text        not null,
  create_time   timestamptz not null,
  -- 0 for none.
  rollback_of   bigint      not null,
  primary key (tenant, key, version),
  check (deleted = (struct_value is null and bytes_value is null))
);
create unique index config_versions_by_sequence on config_versions (tenant, sequence);
select protect('config_versions');

-- The current version of each key.
create table config_heads (
  tenant   text    not null,
  key      text    collate "C" not null,
  version  bigint  not null,
  deleted  boolean not null,
  primary key (tenant, key)
);
select protect('config_heads');
