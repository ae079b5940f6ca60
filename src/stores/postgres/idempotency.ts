/** Stored answers of mutations that carry a request_id: claimed, worked out and kept in one transaction. */
import { deserialize, serialize } from "node:v8"
import { DomainError } from "../../domain/kernel/errors.ts"
import { type CallScope, type Idempotency, systemScope } from "../../domain/kernel/scope.ts"
import type { Database, Statement, Tx } from "./database.ts"

/** How long an answer is kept: a day, so that a client that was offline overnight may repeat. */
export const IDEMPOTENCY_MS = 24 * 3_600_000

/** Either the caller must do the work, or here is what it answered the first time. */
export type Claim = { readonly fresh: true } | { readonly fresh: false; readonly result: unknown }

/**
 * Claims the scope's key for `operation`. Waits for another transaction that holds it. Throws REQUEST_ID_REUSED when the key
 * was used for another body.
 */
export async function claim(
  tx: Tx,
  idempotency: Idempotency,
  operation: string,
  now: number,
): Promise<Claim> {
  const key = [tx.scope.tenant, idempotency.method, idempotency.requestId, operation]
  const claimed = await tx.query({
    name: "kp_idempotency_claim",
    text: `insert into keelplane.idempotency as i (tenant, method, request_id, operation, body_hash, created_at, expires_at)
      values ($1, $2, $3, $4, $5, $6, $7)
      on conflict (tenant, method, request_id, operation) do update
        set body_hash = excluded.body_hash, result = null, created_at = excluded.created_at, expires_at = excluded.expires_at
        where i.expires_at <= excluded.created_at`,
    values: [...key, idempotency.bodyHash, new Date(now), new Date(now + IDEMPOTENCY_MS)],
  })
  if (claimed.count === 1) return { fresh: true }
  const { rows } = await tx.query<{ body_hash: Buffer; result: Buffer }>({
    name: "kp_idempotency_read",
    text: `select body_hash, result from keelplane.idempotency
      where tenant = $1 and method = $2 and request_id = $3 and operation = $4`,
    values: key,
  })
  const [stored] = rows
  if (stored === undefined)
    throw new DomainError(
      "REQUEST_IN_PROGRESS",
      "the first call with this request_id is not over; repeat it",
      { retryDelayMs: 100 },
    )
  if (!stored.body_hash.equals(idempotency.bodyHash)) {
    throw new DomainError(
      "REQUEST_ID_REUSED",
      `request_id "${idempotency.requestId}" was used for another request; take a new one`,
      { metadata: { request_id: idempotency.requestId, method: idempotency.method } },
    )
  }
  return { fresh: false, result: deserialize(stored.result) }
}

/** Stores the answer; the last statement before the commit. */
export function store(
  scope: CallScope,
  idempotency: Idempotency,
  operation: string,
  result: unknown,
): Statement {
  return {
    name: "kp_idempotency_store",
    text: `update keelplane.idempotency set result = $5
      where tenant = $1 and method = $2 and request_id = $3 and operation = $4`,
    values: [scope.tenant, idempotency.method, idempotency.requestId, operation, serialize(result)],
  }
}

/**
 * Deletes up to `limit` answers that expired before `now` (milliseconds since the epoch), of all tenants.
 * @returns how many; fewer than `limit` means that none is left.
 */
export async function sweepIdempotency(database: Database, now: number, limit: number): Promise<number> {
  const { count } = await database.query(systemScope(), {
    name: "kp_idempotency_sweep",
    text: `delete from keelplane.idempotency where (tenant, method, request_id, operation) in (
      select tenant, method, request_id, operation from keelplane.idempotency
      where expires_at <= $1 order by expires_at limit $2 for update skip locked)`,
    values: [new Date(now), limit],
  })
  return count
}
