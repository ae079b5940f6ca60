-- Locks. A row outlives its lease, so that the next token is greater; the sweeper takes rows that were idle for long, after
-- which the clock part of the token keeps it rising.
create table locks (
  tenant      text        not null,
  name        text        not null collate "C",
  owner       text        not null,
  -- greatest(the last token + 1, microseconds since 1970).
  token       bigint      not null,
  metadata    text        not null,
  acquired_at timestamptz not null,
  -- Held while this lies in the future; a release sets it to the time of the release.
  expires_at  timestamptz not null,
  primary key (tenant, name)
);
create index locks_expiry on locks (expires_at);
select protect('locks');
