/** Many callers' mutations in one transaction of two or three round trips, each still repeatable by its request_id. */
import { deserialize, serialize } from "node:v8"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, Idempotency } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Database, Rows, Statement } from "./database.ts"
import { IDEMPOTENCY_MS } from "./idempotency.ts"

/** A mutation of a group. Its caller's idempotency travels with it, since the group's scope has none. */
export interface GroupItem {
  readonly idempotency: Idempotency | undefined
}

/** How a group is written. */
export interface GroupPlan<I, R> {
  /** Names the port method, as in Database.mutate. */
  readonly operation: string
  /** Takes locks and reads what {@link GroupPlan.decide} needs; none of it may write. */
  reads(items: readonly I[]): readonly Statement[]
  /** Decides every item in order; an item's refusal is its outcome. `writes` are all effects together. */
  decide(
    items: readonly I[],
    read: readonly Rows<Record<string, unknown>>[],
  ): { readonly outcomes: readonly Outcome<R>[]; readonly writes: readonly Statement[] }
}

const ATTEMPTS = 5

/** Runs a group. Repetitions, of earlier calls and within the group, answer what the first call answered. */
export async function runGroup<I extends GroupItem, R>(
  database: Database,
  scope: CallScope,
  plan: GroupPlan<I, R>,
  items: readonly I[],
  now: number,
): Promise<readonly Outcome<R>[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runOnce(database, scope, plan, items, now)
    } catch (error) {
      if (!(error instanceof DomainError && error.cause instanceof ClaimRaced) || attempt === ATTEMPTS)
        throw error
    }
  }
}

/** Another daemon's transaction took one of the request ids meanwhile; its answer can be read now. */
class ClaimRaced extends Error {}

function runOnce<I extends GroupItem, R>(
  database: Database,
  scope: CallScope,
  plan: GroupPlan<I, R>,
  items: readonly I[],
  now: number,
): Promise<readonly Outcome<R>[]> {
  const keyed = items.flatMap(({ idempotency }) => (idempotency === undefined ? [] : [idempotency]))
  return database.transaction(scope, async (tx) => {
    const reads = plan.reads(items)
    const answers = keyed.length === 0 ? [] : [readAnswers(scope, plan.operation, keyed, now)]
    const read = await tx.pipeline([...reads, ...answers])
    const group = new Repetitions<I, R>(items, read[reads.length]?.rows ?? [])
    const { outcomes, writes } = plan.decide(group.fresh, read.slice(0, reads.length))
    const stored = group.fresh.flatMap(({ idempotency }, index) => {
      const outcome = outcomes[index]
      return idempotency !== undefined && outcome?.ok === true ? [{ idempotency, result: outcome.value }] : []
    })
    if (stored.length > 0) {
      const written = await tx.pipeline([...writes, storeAnswers(scope, plan.operation, stored, now)])
      if (written.at(-1)?.count !== stored.length) throw raced()
    } else tx.last(writes)
    return group.outcomes(outcomes)
  })
}

function raced(): DomainError {
  return new DomainError(
    "REQUEST_IN_PROGRESS",
    "the first call with this request_id is not over; repeat it",
    {
      retryDelayMs: 100,
      cause: new ClaimRaced(),
    },
  )
}

interface AnswerRow {
  readonly method: string
  readonly request_id: string
  readonly body_hash: Buffer
  readonly result: Buffer
}

/** Tells the items that have to be done from those that were, or are in the same group. */
class Repetitions<I extends GroupItem, R> {
  readonly fresh: I[] = []
  /** For every item the index of its outcome in `fresh`, or the outcome itself. */
  readonly #outcomes: (number | Outcome<R>)[] = []

  constructor(items: readonly I[], rows: readonly Record<string, unknown>[]) {
    // The columns are those of the statement below.
    const answers = new Map(
      (rows as unknown as AnswerRow[]).map((row) => [keyOf(row.method, row.request_id), row]),
    )
    const firsts = new Map<string, { index: number; bodyHash: Uint8Array }>()
    for (const item of items) {
      const { idempotency } = item
      if (idempotency === undefined) {
        this.#outcomes.push(this.fresh.push(item) - 1)
        continue
      }
      const key = keyOf(idempotency.method, idempotency.requestId)
      const answer = answers.get(key)
      const first = firsts.get(key)
      const hash = answer?.body_hash ?? first?.bodyHash
      if (hash !== undefined && Buffer.compare(hash, idempotency.bodyHash) !== 0) {
        this.#outcomes.push({ ok: false, error: reused(idempotency) })
        // The answer is what an item of the same operation stored.
      } else if (answer !== undefined)
        this.#outcomes.push({ ok: true, value: deserialize(answer.result) as R })
      else if (first !== undefined) this.#outcomes.push(first.index)
      else {
        const index = this.fresh.push(item) - 1
        firsts.set(key, { index, bodyHash: idempotency.bodyHash })
        this.#outcomes.push(index)
      }
    }
  }

  outcomes(fresh: readonly Outcome<R>[]): readonly Outcome<R>[] {
    return this.#outcomes.map((outcome) => {
      const found = typeof outcome === "number" ? fresh[outcome] : outcome
      if (found === undefined) throw new Error("a group's plan must decide every item")
      return found
    })
  }
}

function keyOf(method: string, requestId: string): string {
  return `${method} ${requestId}`
}

function reused({ requestId, method }: Idempotency): DomainError {
  return new DomainError(
    "REQUEST_ID_REUSED",
    `request_id "${requestId}" was used for another request; take a new one`,
    { metadata: { request_id: requestId, method } },
  )
}

function readAnswers(
  scope: CallScope,
  operation: string,
  keys: readonly Idempotency[],
  now: number,
): Statement {
  return {
    name: "group_answers_read",
    text: `select i.method, i.request_id, i.body_hash, i.result
      from unnest($3::text[], $4::text[]) as k(method, request_id)
      join keelplane.idempotency i
        on i.tenant = $1 and i.method = k.method and i.request_id = k.request_id and i.operation = $2
      where i.expires_at > $5`,
    values: [
      scope.tenant,
      operation,
      keys.map(({ method }) => method),
      keys.map(({ requestId }) => requestId),
      new Date(now),
    ],
  }
}

function storeAnswers(
  scope: CallScope,
  operation: string,
  answers: readonly { readonly idempotency: Idempotency; readonly result: unknown }[],
  now: number,
): Statement {
  // In one order for all daemons, so that two groups with common request ids cannot wait for each other.
  const sorted = [...answers].sort((a, b) => (a.idempotency.requestId < b.idempotency.requestId ? -1 : 1))
  return {
    name: "group_answers_store",
    text: `insert into keelplane.idempotency as i
        (tenant, method, request_id, operation, body_hash, result, created_at, expires_at)
      select $1, k.method, k.request_id, $2, k.body_hash, k.result, $7, $8
      from unnest($3::text[], $4::text[], $5::bytea[], $6::bytea[]) as k(method, request_id, body_hash, result)
      on conflict (tenant, method, request_id, operation) do update
        set body_hash = excluded.body_hash, result = excluded.result, created_at = excluded.created_at,
          expires_at = excluded.expires_at
        where i.expires_at <= excluded.created_at`,
    values: [
      scope.tenant,
      operation,
      sorted.map(({ idempotency }) => idempotency.method),
      sorted.map(({ idempotency }) => idempotency.requestId),
      sorted.map(({ idempotency }) => Buffer.from(idempotency.bodyHash)),
      sorted.map(({ result }) => serialize(result)),
      new Date(now),
      new Date(now + IDEMPOTENCY_MS),
    ],
  }
}
