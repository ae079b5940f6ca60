-- The transactional outbox: what a committed transaction still owes to other stores. Entries are deleted when they are done.
create table outbox (
  -- Given out while the writer holds the lock of what the entry is about, so that within a key it is the order of commits.
  id            bigint      not null generated always as identity primary key,
  topic         text        collate "C" not null,
  tenant        text        not null,
  key           text        collate "C" not null,
  op_id         text        collate "C" not null,
  payload       bytea       not null,
  trace_parent  text        not null,
  created_at    timestamptz not null default statement_timestamp(),
  -- The end of a lease or of the pause before the next try; null while it was never touched or was given back.
  held_until    timestamptz,
  -- The claim that has it; null during a pause.
  fence         bigint,
  failures      integer     not null default 0,
  strikes       integer     not null default 0,
  -- The last failure.
  fault_reason  text,
  fault_message text,
  parked_at     timestamptz
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 10000);
-- What a claim walks, in its order.
create index outbox_due on outbox (topic, id) where parked_at is null;
-- The keys that a claim leaves alone; few.
create index outbox_held on outbox (topic, held_until) where parked_at is null and held_until is not null;
create index outbox_parked on outbox (topic, id) where parked_at is not null;
-- Whether something about one thing, or about things with a common beginning, is still under way.
create index outbox_keys on outbox (tenant, topic, key, id);
select protect('outbox');

-- Numbers of claims.
create sequence outbox_fences;
grant usage on sequence outbox_fences to keelplane_app;
