-- Usage, budgets and reservations. Quantities are numeric: added exactly, whatever their number.

create table usage_events (
  tenant       text        not null,
  event_id     text        collate "C" not null,
  meter        text        collate "C" not null,
  quantity     numeric     not null check (quantity >= 0),
  event_time   timestamptz not null,
  -- '' for none, also below.
  agent_id     text        collate "C" not null,
  user_id      text        collate "C" not null,
  session_id   text        collate "C" not null,
  dimensions   jsonb       not null,
  -- SHA-256 of what the caller sent: the same id with another is refused.
  body_hash    bytea       not null,
  record_time  timestamptz not null,
  primary key (tenant, event_id)
);
create index usage_events_by_time on usage_events (tenant, meter, event_time);
select protect('usage_events');

-- What budgets look at: sums per day, for everybody (subject_kind '') and for each agent, user and session. Written in the
-- transaction that inserts the events, so it never differs from them.
create table usage_days (
  tenant        text    not null,
  meter         text    collate "C" not null,
  subject_kind  text    collate "C" not null check (subject_kind in ('', 'agent', 'user', 'session')),
  subject_id    text    collate "C" not null,
  -- Of UTC.
  day           date    not null,
  quantity      numeric not null,
  primary key (tenant, meter, subject_kind, subject_id, day)
);
select protect('usage_days');

create table budgets (
  tenant        text        not null,
  id            text        collate "C" not null,
  meter         text        collate "C" not null,
  period        text        not null check (period in ('DAY', 'MONTH', 'TOTAL')),
  amount        numeric     not null check (amount >= 0),
  hard          boolean     not null,
  subject_kind  text        collate "C" not null check (subject_kind in ('', 'agent', 'user', 'session')),
  subject_id    text        collate "C" not null,
  thresholds    integer[]   not null,
  revision      bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
create index budgets_by_meter on budgets (tenant, meter, id);
select protect('budgets');

-- One row per meter of a reservation; all rows of one reservation change together.
create table usage_reservations (
  tenant          text        not null,
  reservation_id  text        collate "C" not null,
  meter           text        collate "C" not null,
  quantity        numeric     not null check (quantity >= 0),
  agent_id        text        collate "C" not null,
  user_id         text        collate "C" not null,
  session_id      text        collate "C" not null,
  state           text        not null check (state in ('ACTIVE', 'SETTLED', 'RELEASED')),
  -- What was used; null unless settled, and for a meter that was not used.
  settled         numeric,
  create_time     timestamptz not null,
  expire_time     timestamptz not null,
  primary key (tenant, reservation_id, meter)
);
create index usage_reservations_active on usage_reservations (tenant, meter, expire_time) where state = 'ACTIVE';
create index usage_reservations_expiry on usage_reservations (expire_time);
select protect('usage_reservations');
