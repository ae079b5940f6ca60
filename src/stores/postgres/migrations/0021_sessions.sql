-- Conversations and their messages.

create table sessions (
  tenant          text        not null,
  session_id      text        collate "C" not null,
  agent_id        text        collate "C" not null,
  user_id         text        collate "C" not null,
  title           text        not null,
  metadata        jsonb       not null,
  -- JSON, kept as text: it comes back as it was sent.
  state           text        not null,
  status          text        not null check (status in ('active', 'ended')),
  end_reason      text        not null,
  revision        bigint      not null,
  -- Messages appended so far, and their tokens.
  message_count   bigint      not null,
  input_tokens    bigint      not null,
  output_tokens   bigint      not null,
  created_at      timestamptz not null,
  updated_at      timestamptz not null,
  active_at       timestamptz not null,
  ended_at        timestamptz,
  -- How long after its last activity it goes; null where expires_at is fixed.
  ttl_ms          bigint,
  expires_at      timestamptz not null,
  -- Bytes on the wire; lists cut their pages by it.
  size            integer     not null,
  primary key (tenant, session_id)
) with (fillfactor = 80);
create index sessions_newest on sessions (tenant, created_at desc, session_id desc);
create index sessions_agent on sessions (tenant, agent_id, created_at desc, session_id desc);
create index sessions_user on sessions (tenant, user_id, created_at desc, session_id desc);
create index sessions_expiry on sessions (expires_at);
select protect('sessions');

create table session_messages (
  tenant          text        not null,
  session_id      text        collate "C" not null,
  sequence        bigint      not null,
  role            text        not null check (role in ('user', 'assistant', 'system', 'tool')),
  -- Everything else that was said, as JSON text.
  body            text        not null,
  input_tokens    bigint,
  output_tokens   bigint,
  created_at      timestamptz not null,
  size            integer     not null,
  primary key (tenant, session_id, sequence)
);
select protect('session_messages', 'select, insert, delete');
