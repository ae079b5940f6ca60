/**
 * A database as the first release left it: its migrations, and a row or more in each of its tables. What that release wrote must be
 * read by all later ones, so nothing here changes when the schema does.
 */
import { AUDIT_GENESIS, chainEntries } from "../../src/domain/event/audit-chain.ts"
import { DEFAULT_TENANT, parseTenantId, type TenantId } from "../../src/domain/kernel/scope.ts"
import { encode } from "../../src/stores/postgres/exchange.ts"
import type { Session } from "../../src/stores/postgres/session.ts"

/** The migrations of the first release by version, with the first digits of what they hash to. */
export const FIRST_RELEASE: Readonly<Record<number, string>> = {
  1: "3de58a500df21b42",
  10: "b32a5c7223b3237d",
  20: "62da6dee52447b4e",
  21: "95e565f255aeee8b",
  30: "2dca361360b3c86a",
  31: "a4284eea4d14d216",
  32: "38ba5b71891c15fe",
  50: "b8b48cf966baae30",
  51: "27071e32beafcf2d",
  60: "3b95b3a2fe0f3a4a",
}

/** Whose rows they are. */
export const RELEASED_TENANT: TenantId = parseTenantId("acme") ?? DEFAULT_TENANT

/** The time in all rows. */
export const AT = "2026-03-04T05:06:07.089Z"

/** Days of the audit log. */
export const AUDIT_DAYS = ["2026-03-03", "2026-03-04"] as const

const T = RELEASED_TENANT
const HASH = "decode(repeat('ab', 32), 'hex')"

const ROWS = `
select set_config('keelplane.tenant', '*', false);
insert into idempotency values ('${T}', 'keelplane.v1.JobService/EnqueueJob', 'r1', 'jobs.enqueue', ${HASH}, null, '${AT}', '2096-01-01');
insert into platform_settings values ('*', 'page-tokens-of-old', ${HASH}, '${AT}');
insert into tenants values ('*', '${T}', 'Acme', '{"tier":"gold"}', 'ACTIVE', 'pro', '{"requests":"18446744073709551615"}', 3, '${AT}', '${AT}');
insert into users values ('${T}', 'u1', 'Uma', 'uma@example.com', '{"a":"b"}', false, 2, '${AT}', '${AT}');
insert into agents values ('${T}', 'a1', 'Ada', 'helps', 'u1', '{}', '{"model":"m","n":1.5}', true, 4, '${AT}', '${AT}');
insert into roles values ('${T}', 'reader', 'Reader', 'reads', '{memory.read,"event.read"}', 1, '${AT}', '${AT}');
insert into role_assignments values ('${T}', 'agent', 'a1', 'reader', '', '${AT}', 'system');
insert into api_keys values ('${T}', 'k1', 'key', '{memory.read}', '', 'a1', ${HASH}, ${HASH}, '2097-01-01', '${AT}', '2098-01-01', null, 5);
insert into config_sequences values ('${T}', 3);
insert into config_versions values
  ('${T}', 'limits', 1, 1, '{"max":1000,"text":"\\u0000"}', null, '', false, 'first', 'u1', '${AT}', 0),
  ('${T}', 'logo', 1, 2, null, '\\x00ff10', 'image/png', false, '', 'u1', '${AT}', 0),
  ('${T}', 'logo', 2, 3, null, null, '', true, 'gone', 'u1', '${AT}', 0);
insert into config_heads values ('${T}', 'limits', 1, false), ('${T}', 'logo', 2, true);
insert into memory_collections (tenant, id, description, labels, dimension, metric, quantization, index_spec, embedder,
    default_ttl_ms, revision, create_time, update_time) values
  ('${T}', 'facts', 'what is known', '{"team":"x"}', 3, 'COSINE', 'NONE', '{"kind":"AUTO"}', '', null, nextval('memory_revision'), '${AT}', '${AT}'),
  ('${T}', 'halves', '', '{}', 3, 'L2', 'HALF', '{"kind":"FLAT"}', '', 86400000, nextval('memory_revision'), '${AT}', '${AT}');
insert into memory_records (tenant, collection_key, id, body, metadata, embedding, embedding_half, revision, writes, indexed,
    create_time, update_time, expire_time)
  select '${T}', c.key, 'r' || n, 'the word number ' || n, jsonb_build_object('n', n),
    case when c.id = 'facts' then ('[' || n || ',0.1,-0.3]')::vector end,
    case when c.id = 'halves' then ('[' || n || ',0.5,0.1]')::halfvec end,
    nextval('memory_revision'), n, false, '${AT}', '${AT}', case when n = 3 then '2099-01-01'::timestamptz end
  from memory_collections c cross join generate_series(1, 5) n order by c.key, n;
insert into streams (tenant, stream, head, first_revision, swept_before, created_at, recorded_at, deleted_at) values
  ('${T}', 'order-1', 3, 1, 1, '${AT}', '${AT}', null), ('${T}', 'order-2', 4, 3, 3, '${AT}', '${AT}', null),
  ('${T}', 'gone-1', 2, 3, 3, '${AT}', '${AT}', '${AT}');
insert into events (tenant, stream, revision, event_id, type, json, bin, content_type, metadata, state_patch, correlation_id,
    causation_id, trace_parent, occurred_at, recorded_at, size)
  select '${T}', s.stream, n, gen_random_uuid(), 'Changed', case when n < 3 then '{"n":' || n || ',"z":"\\u0000"}' end,
    case when n = 3 then '\\x00ff'::bytea end, case when n = 3 then 'application/octet-stream' else '' end, '{"by":"u1"}',
    case when s.stream = 'order-1' then '{"total":' || n || '}' end, 'c', '', '', '${AT}', '${AT}', 200
  from streams s, generate_series(s.first_revision, s.head) n order by n, s.stream;
insert into snapshots values ('${T}', 'order-2', '', 2, '{"total":2}', '${AT}'), ('${T}', 'order-1', 'view', 2, '{"v":2}', '${AT}');
insert into sessions values
  ('${T}', 's1', 'a1', 'u1', 'Talk', '{"k":"v"}', '{"x":1.50}', 'active', '', 2, 2, 10, 20, '${AT}', '${AT}', '${AT}', null, 3153600000000, '2126-01-01', 300),
  ('${T}', 's2', 'a1', '', '', '{}', '{}', 'ended', 'done', 3, 0, 0, 0, '${AT}', '${AT}', '${AT}', '${AT}', null, '2126-01-01', 280);
insert into session_messages values
  ('${T}', 's1', 1, 'user', '{"content":[{"kind":"text","text":"hello"}],"toolCalls":[],"toolCallId":"","name":""}', null, null, '${AT}', 100),
  ('${T}', 's1', 2, 'assistant', '{"content":[{"kind":"text","text":"hi"}],"toolCalls":[],"toolCallId":"","name":""}', 10, 20, '${AT}', 100);
insert into jobs (tenant, id, queue, status, priority, available_at, max_attempts, attempts, attempts_left, dedupe_key, backoff,
    lease_ms, held_ms, lease_token, worker, payload_kind, payload, payload_type, payload_size, result_kind, result, history, created_at,
    started_at, ended_at, expires_at, revision) values
  ('${T}', 'j1', 'mail', 'queued', 5, '${AT}', 3, 0, 3, 'once', '{"initial":1000,"maximum":60000,"multiplier":2}', 30000, null, null,
    null, 'json', '\\x7b7d', '', 2, null, null, '{}', '${AT}', null, null, null, 1),
  ('${T}', 'j2', 'mail', 'running', 0, '2096-01-01', 3, 1, 2, null, '{"initial":1000,"maximum":60000,"multiplier":2}', 30000, 30000,
    'token', 'w1', 'binary', '\\x00ff', 'x/y', 2, null, null, '{}', '${AT}', '${AT}', null, null, 2),
  ('${T}', 'j3', 'mail', 'succeeded', 0, null, 1, 1, 0, null, '{"initial":1000,"maximum":60000,"multiplier":2}', 30000, 30000,
    null, null, null, null, null, 0, 'json', '\\x7b7d', array['{"number":1,"worker":"w1","start":1,"end":2,"outcome":"succeeded"}'::json],
    '${AT}', '${AT}', '${AT}', '2096-01-01', 3);
insert into locks values ('${T}', 'l1', 'w1', 1772600767089000, '{}', '${AT}', '${AT}');
insert into usage_events values ('${T}', 'e1', 'tokens', 12345678901234567890.5, '${AT}', 'a1', 'u1', 's1', '{"m":"x"}', ${HASH}, '${AT}');
insert into usage_days select '${T}', 'tokens', k, i, '2026-03-04', 12345678901234567890.5
  from (values ('', ''), ('agent', 'a1'), ('user', 'u1'), ('session', 's1')) as s (k, i);
insert into budgets values ('${T}', 'b1', 'tokens', 'TOTAL', 99999999999999999999.5, true, 'agent', 'a1', '{50,90}', 1, '${AT}', '${AT}');
insert into usage_reservations values
  ('${T}', 'v1', 'tokens', 10, 'a1', '', '', 'ACTIVE', null, '${AT}', '2096-01-01'),
  ('${T}', 'v2', 'tokens', 10, 'a1', '', '', 'SETTLED', 7.5, '${AT}', '2096-01-01');
`

/** Writes the rows, as the owner of a database that has the migrations of {@link FIRST_RELEASE}. */
export async function insertReleasedRows(session: Session): Promise<void> {
  await session.script(ROWS)
  let prevHash: Uint8Array = AUDIT_GENESIS
  for (const day of AUDIT_DAYS) {
    const entries = ["tenant.create", "user.create"].map((action, at) => ({
      id: `${day}-${at}`,
      actor: "system",
      action,
      resourceType: "thing",
      resourceId: "x",
      outcome: "success" as const,
      details: { n: at, text: "é" },
    }))
    const records = chainEntries(
      T,
      { day, records: 0n, head: prevHash },
      entries,
      Date.parse(`${day}T01:02:03.004Z`),
    )
    const head = records.at(-1)?.hash ?? prevHash
    for (const r of records) {
      await session.run([
        encode({
          text: `insert into keelplane.audit_records values
            ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
          values: [
            T,
            r.day,
            r.sequence,
            r.id,
            new Date(r.timeMs),
            new Date(r.recordMs),
            r.actor,
            r.action,
            r.resourceType,
            r.resourceId,
            r.outcome,
            r.ipAddress,
            r.userAgent,
            r.correlationId,
            r.detailsJson,
            r.prevHash,
            r.hash,
          ],
        }),
      ])
    }
    const values = [T, day, BigInt(records.length), prevHash, head]
    await session.run([
      encode({ text: "insert into keelplane.audit_days values ($1, $2, $3, $4, $5)", values }),
      encode({
        text: `insert into keelplane.audit_chains values ($1, $2, $3, $4, $5)
          on conflict (tenant) do update set day = excluded.day, records = excluded.records,
            prev_hash = excluded.prev_hash, head = excluded.head`,
        values,
      }),
    ])
    prevHash = head
  }
  await session.script("select set_config('keelplane.tenant', '', false)")
}
