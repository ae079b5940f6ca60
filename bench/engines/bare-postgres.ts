/**
 * Events and vectors by `pg`, in tables with the columns and indexes of the daemon's. An append is one statement, which is the least
 * that keeps revisions without gaps; every caller has a transaction of its own.
 */
import { randomUUID } from "node:crypto"
import pg from "pg"
import { BATCH, SERVER_RECORDS } from "../cases.ts"
import { textOf, vectors } from "../vectors.ts"
import type { OpenBare } from "./bare.ts"

/** As many connections as the daemon has by default. */
const POOL = 10
/** As the daemon looks at by default. */
const EF_SEARCH = 100

const TABLES = `
  create schema if not exists bare;
  drop table if exists bare.streams, bare.events, bare.vectors, bare.writes;
  create table bare.streams (
    tenant text not null, stream text collate "C" not null,
    category text collate "C" not null generated always as (split_part(stream, '-', 1)) stored, head bigint not null,
    first_revision bigint not null default 1, swept_before bigint not null default 1, created_at timestamptz not null,
    recorded_at timestamptz not null, deleted_at timestamptz, primary key (tenant, stream)
  ) with (fillfactor = 70);
  create index on bare.streams (tenant, category, stream);
  create index on bare.streams (tenant, stream) where swept_before < first_revision;
  create table bare.events (
    tenant text not null, stream text collate "C" not null, revision bigint not null, event_id uuid not null,
    category text collate "C" not null generated always as (split_part(stream, '-', 1)) stored, type text collate "C" not null,
    json text, bin bytea, content_type text not null, metadata text, state_patch text, correlation_id text not null,
    causation_id text not null, trace_parent text not null, occurred_at timestamptz not null, recorded_at timestamptz not null,
    size integer not null, txid xid8 not null default pg_current_xact_id(), position bigint not null generated always as identity,
    primary key (tenant, stream, revision)
  );
  create unique index on bare.events (tenant, event_id, stream);
  create index on bare.events (tenant, txid, position);
  create index on bare.events (tenant, category, txid, position);
  create table bare.vectors (id text collate "C" primary key, body text not null, metadata jsonb not null, embedding vector(384) not null);
  alter table bare.vectors alter column embedding set storage main;
  create table bare.writes (like bare.vectors including all);
  create index on bare.vectors using hnsw (embedding vector_cosine_ops) with (m = 16, ef_construction = 64);
`

const APPEND = `
  with head as (
    insert into bare.streams as s (tenant, stream, head, created_at, recorded_at) values ('t', $1, $2, now(), now())
    on conflict (tenant, stream) do update set head = s.head + $2, recorded_at = now() returning head
  )
  insert into bare.events (tenant, stream, revision, event_id, type, json, content_type, correlation_id, causation_id, trace_parent,
    occurred_at, recorded_at, size)
  select 't', $1, head - $2 + n, event_id, 'bench.event', json, 'application/json', '', '', '', now(), now(), 300
  from head, unnest($3::uuid[], $4::text[]) with ordinality as events(event_id, json, n) returning revision`

const UPSERT = `
  insert into bare.writes (id, body, metadata, embedding)
  select id, '', '{}', embedding::vector from unnest($1::text[], $2::text[]) as records(id, embedding)
  on conflict (id) do update set body = excluded.body, metadata = excluded.metadata, embedding = excluded.embedding`

const SEARCH =
  "select id, 1 - (embedding <=> $1) as score from bare.vectors order by embedding <=> $1 limit 10"

/** See the file's comment. */
export const open: OpenBare = async (url) => {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL,
    options: `-c hnsw.ef_search=${EF_SEARCH} -c search_path=public,keelplane`,
  })
  // The daemon has made the extension in its own schema.
  await pool.query("create extension if not exists vector")
  await pool.query(TABLES)
  const stored = vectors(1)
  for (let from = 0; from < SERVER_RECORDS; from += 200) {
    const ids = Array.from({ length: 200 }, (_, each) => `r${from + each}`)
    await pool.query(
      `insert into bare.vectors (id, body, metadata, embedding) select id, '', '{}', e::vector from unnest($1::text[], $2::text[]) as r(id, e)`,
      [ids, ids.map(() => textOf(stored()))],
    )
  }
  await pool.query("analyze bare.vectors")
  const next = vectors(2)
  const asked = Array.from({ length: 100 }, next)
  const text = JSON.stringify({ text: "x".repeat(100) })
  const append = (stream: string, events: number) => {
    const ids = Array.from({ length: events }, () => randomUUID())
    return pool.query({ name: "append", text: APPEND, values: [stream, events, ids, ids.map(() => text)] })
  }
  const upsert = (index: number, records: number) => {
    const ids = Array.from({ length: records }, (_, each) => `w${(index * records + each) % 640}`)
    const values = [ids, ids.map((_, each) => textOf(asked[(index + each) % asked.length] as Float32Array))]
    return pool.query({ name: "upsert", text: UPSERT, values })
  }
  return {
    append: (index) => append(`bench-${index % 64}`, 1),
    appendToOne: () => append("bench-one", 1),
    appendMany: (index) => append(`bench-${index % 64}`, BATCH),
    search: (index) =>
      pool.query({
        name: "search",
        text: SEARCH,
        values: [textOf(asked[index % asked.length] as Float32Array)],
      }),
    upsert: (index) => upsert(index, 1),
    upsertMany: (index) => upsert(index, BATCH),
  }
}
