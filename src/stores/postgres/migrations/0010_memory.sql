-- The Memory plane: collections and their records, one table for all dimensions. docs/adr has the reasons.

create extension if not exists vector;

-- Revisions of collections and records. One sequence, so that a revision never comes back for an id that was deleted.
create sequence memory_revision;

create table memory_collections (
  tenant         text        not null,
  id             text        not null collate "C",
  -- The collection's handle in memory_records and in index names; never used again.
  key            bigint      not null generated always as identity,
  description    text        not null,
  labels         jsonb       not null,
  dimension      integer     not null check (dimension between 1 and 16000),
  metric         text        not null check (metric in ('COSINE', 'L2', 'INNER_PRODUCT', 'L1')),
  quantization   text        not null check (quantization in ('NONE', 'HALF')),
  -- What was asked for: {"kind": "AUTO" | "HNSW" | "IVF_FLAT" | "FLAT", ...}.
  index_spec     jsonb       not null,
  -- What there is: HNSW or IVF_FLAT once the index memory_ann_<key> exists.
  index_kind     text,
  index_state    text        not null default 'EXACT' check (index_state in ('EXACT', 'BUILDING', 'READY')),
  embedder       text        not null,
  default_ttl_ms bigint,
  revision       bigint      not null,
  create_time    timestamptz not null,
  update_time    timestamptz not null,
  primary key (tenant, id),
  unique (tenant, key)
);
select protect('memory_collections');

create table memory_records (
  tenant         text        not null,
  collection_key bigint      not null,
  id             text        not null collate "C",
  body           text        not null,
  metadata       jsonb       not null,
  -- One of the two, by the collection's quantization. No typed dimension: an index casts to its collection's own.
  embedding      vector,
  embedding_half halfvec,
  words          tsvector    not null generated always as (to_tsvector('simple', body)) stored,
  revision       bigint      not null,
  -- 1 when the record came into being, then one more with every write.
  writes         integer     not null,
  -- Whether the collection's approximate index holds this version of the record. A write leaves it out, so that it never
  -- waits for the index; background steps put it in.
  indexed        boolean     not null default false,
  create_time    timestamptz not null,
  update_time    timestamptz not null,
  expire_time    timestamptz,
  primary key (tenant, collection_key, id),
  constraint memory_records_collection foreign key (tenant, collection_key)
    references memory_collections (tenant, key) on delete cascade,
  check (num_nonnulls(embedding, embedding_half) = 1)
) with (toast_tuple_target = 4096);
-- Vectors stay in the row where they fit: an exact search reads every one of them, and from TOAST that takes five times as long.
alter table memory_records alter column embedding set storage main;
alter table memory_records alter column embedding_half set storage main;
create index memory_records_created on memory_records (tenant, collection_key, create_time, id);
create index memory_records_updated on memory_records (tenant, collection_key, update_time, id);
create index memory_records_expiry on memory_records (expire_time) where expire_time is not null;
create index memory_records_unindexed on memory_records (tenant, collection_key) where not indexed;
select protect('memory_records');
grant usage on sequence memory_revision to keelplane_app;

-- Index work needs the table's owner, which the daemon's role is not; these functions do that much and no more. All names and
-- numbers in their statements come from the collection's own row, which row-level security lets through for its tenant only.
create function memory_create_index(collection bigint, kind text, m integer, ef_construction integer, lists integer)
returns void language plpgsql security definer set search_path = keelplane, public, pg_temp as $$
declare
  c memory_collections;
  vector_type text;
  operators text;
  method text;
begin
  select * into strict c from memory_collections
    where key = collection and tenant = current_setting('keelplane.tenant', true);
  vector_type := case c.quantization when 'HALF' then 'halfvec' else 'vector' end;
  operators := vector_type || case c.metric
    when 'COSINE' then '_cosine_ops' when 'L2' then '_l2_ops' when 'L1' then '_l1_ops' else '_ip_ops' end;
  method := case kind
    when 'HNSW' then format('with (m = %s, ef_construction = %s)', m, ef_construction)
    else format('with (lists = %s)', lists) end;
  execute format(
    'create index if not exists memory_ann_%s on memory_records using %s ((%s::%s(%s)) %s) %s where collection_key = %s and indexed',
    c.key, case kind when 'HNSW' then 'hnsw' else 'ivfflat' end,
    case c.quantization when 'HALF' then 'embedding_half' else 'embedding' end,
    vector_type, c.dimension, operators, method, c.key);
end $$;
revoke all on function memory_create_index(bigint, text, integer, integer, integer) from public;
grant execute on function memory_create_index(bigint, text, integer, integer, integer) to keelplane_app;

create function memory_drop_index(collection bigint)
returns void language plpgsql security definer set search_path = keelplane, public, pg_temp as $$
declare
  owned bigint;
begin
  select key into strict owned from memory_collections
    where key = collection and tenant = current_setting('keelplane.tenant', true);
  execute format('drop index if exists memory_ann_%s', owned);
end $$;
revoke all on function memory_drop_index(bigint) from public;
grant execute on function memory_drop_index(bigint) to keelplane_app;

-- PGlite has no autovacuum, and without statistics the planner takes every collection for a tiny one and leaves its index alone.
create function memory_analyze()
returns void language sql security definer set search_path = keelplane, public, pg_temp as
  'analyze memory_records (tenant, collection_key, id, indexed, expire_time)';
revoke all on function memory_analyze() from public;
grant execute on function memory_analyze() to keelplane_app;
