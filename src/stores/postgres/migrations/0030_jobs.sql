-- The job queue. One row per job; a claim, a heartbeat and an end are updates of that row.
create table jobs (
  tenant          text        not null,
  -- UUIDv7, so that the order of ids is the order of creation.
  id              text        not null collate "C",
  queue           text        not null collate "C",
  status          text        not null check (status in ('queued', 'running', 'succeeded', 'failed', 'dead', 'cancelled')),
  priority        integer     not null,
  -- When it may be claimed: the run time of a queued job, the end of the lease of a running one, null once it has ended.
  available_at    timestamptz,
  max_attempts    integer     not null,
  attempts        integer     not null default 0,
  attempts_left   integer     not null,
  dedupe_key      text        collate "C",
  -- Milliseconds and factor: {"initial", "maximum", "multiplier"}.
  backoff         jsonb       not null,
  -- Lease of a claim that names none, and the length the current holder was given.
  lease_ms        bigint      not null,
  held_ms         bigint,
  lease_token     text,
  worker          text,
  cancel_requested boolean    not null default false,
  -- Payload and result: kind is 'json' (text in the bytes) or 'binary'. Bytes keep what jsonb would refuse or change.
  payload_kind    text,
  payload         bytea,
  payload_type    text,
  -- Bytes on the wire, which are not those of the text.
  payload_size    integer     not null default 0,
  result_kind     text,
  result          bytea,
  result_type     text,
  result_size     integer     not null default 0,
  progress        text,
  -- The last failure as JSON: {"message", "code", "details"}. Kept as text for the same reason.
  error           text,
  error_code      text,
  cost_amount     text,
  cost_currency   text,
  -- The last twenty ended attempts as a JSON array, oldest first.
  history         json[]      not null default '{}',
  created_at      timestamptz not null,
  started_at      timestamptz,
  ended_at        timestamptz,
  expires_at      timestamptz,
  revision        bigint      not null default 1,
  primary key (tenant, id)
);

-- What a claim walks, in its order; jobs that have ended are not in it.
create index jobs_claim on jobs (tenant, queue, priority desc, available_at, id) where available_at is not null;
-- The sweeper's: leases that elapsed without anybody claiming the job, and jobs past their retention.
create index jobs_leases on jobs (available_at) where status = 'running';
create index jobs_expiry on jobs (expires_at) where expires_at is not null;
create unique index jobs_dedupe on jobs (tenant, queue, dedupe_key)
  where dedupe_key is not null and status in ('queued', 'running');
create index jobs_by_queue on jobs (tenant, queue, id);
create index jobs_by_status on jobs (tenant, status, id);

-- A history with one more entry, of which the last twenty are kept.
create function job_history(history json[], entry json) returns json[]
language sql immutable as $$
  select (history[greatest(1, coalesce(array_length(history, 1), 0) - 18):] || entry)
$$;

select protect('jobs');
