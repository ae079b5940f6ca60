-- Flows over several stores, kept step by step.
create table sagas (
  tenant        text        not null,
  id            text        not null collate "C",
  kind          text        not null,
  -- What it is about; at most one saga that is not over has the same kind, tenant and subject.
  subject       text        not null collate "C",
  actor         text        not null,
  input         jsonb       not null,
  steps         jsonb       not null,
  state         text        not null check (state in ('running', 'done', 'compensating', 'compensated', 'stuck')),
  fault         jsonb,
  failures      integer     not null,
  next_time     timestamptz not null,
  -- Nobody else works on it until then.
  lease_time    timestamptz,
  -- Rises with every lease.
  fence         bigint      not null,
  create_time   timestamptz not null,
  update_time   timestamptz not null,
  primary key (tenant, id)
);
create unique index sagas_unfinished on sagas (tenant, kind, subject) where state in ('running', 'compensating', 'stuck');
create index sagas_due on sagas (next_time) where state in ('running', 'compensating');
create index sagas_over on sagas (update_time) where state in ('done', 'compensated');
create index sagas_by_id on sagas (id);
select protect('sagas');
