/** Sagas in PostgreSQL. */
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import type { NewSaga, Saga, SagaFault, SagaState, SagaStep } from "../../domain/saga/model.ts"
import type { LeasedSaga, SagaQuery, SagaStore } from "../../domain/saga/ports.ts"
import { pageOf } from "./control-resource.ts"
import type { Database, Tx } from "./database.ts"

interface SagaRow {
  readonly tenant: TenantId
  readonly id: string
  readonly kind: string
  readonly subject: string
  readonly actor: string
  readonly input: JsonObject
  readonly steps: readonly SagaStep[]
  readonly state: SagaState
  readonly fault: SagaFault | null
  readonly failures: number
  readonly next_time: Date
  readonly fence: bigint
  readonly create_time: Date
  readonly update_time: Date
}

const UNFINISHED = "state in ('running', 'compensating', 'stuck')"

/** A {@link SagaStore} over `database`. */
export function createSagaStore(deps: { readonly database: Database; readonly clock: Clock }): SagaStore {
  return new PostgresSagaStore(deps.database, deps.clock)
}

class PostgresSagaStore implements SagaStore {
  readonly #database: Database
  readonly #clock: Clock

  constructor(database: Database, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  async begin(scope: CallScope, draft: NewSaga, leaseMs: number): Promise<LeasedSaga> {
    const now = this.#clock.now()
    const begun = await this.#database.mutate(scope, "sagas.begin", (tx) =>
      this.#insert(tx, draft, now, leaseMs),
    )
    if (begun.fresh && begun.id === draft.id) {
      // Not read back: once it is begun, a failure would say that it is not.
      const times = { nextMs: now, createdMs: now, updatedMs: now }
      return { saga: { ...draft, state: "running", fault: undefined, failures: 0, ...times }, fence: 1n }
    }
    return { saga: await this.get(scope, begun.id), fence: 0n }
  }

  async claim(scope: CallScope, limit: number, leaseMs: number): Promise<readonly LeasedSaga[]> {
    const now = this.#clock.now()
    const { rows } = await this.#database.query<SagaRow>(scope, {
      name: "saga_claim",
      text: `with due as (select tenant, id from sagas
          where ($1 = '*' or tenant = $1) and state in ('running', 'compensating') and next_time <= $2
            and (lease_time is null or lease_time <= $2)
          order by next_time limit $3 for update skip locked)
        update sagas s set lease_time = $4, fence = s.fence + 1 from due
        where s.tenant = due.tenant and s.id = due.id returning s.*`,
      values: [scope.tenant, new Date(now), limit, new Date(now + leaseMs)],
    })
    return rows.map((row) => ({ saga: sagaOf(row), fence: row.fence }))
  }

  async save(scope: CallScope, fence: bigint, saga: Saga, leaseMs: number): Promise<void> {
    const now = this.#clock.now()
    const { count } = await this.#database.query(scope, {
      name: "saga_save",
      text: `update sagas set steps = $4, state = $5, fault = $6, failures = $7, next_time = $8, lease_time = $9,
          update_time = greatest(update_time, $10)
        where tenant = $1 and id = $2 and fence = $3`,
      values: [
        saga.tenant,
        saga.id,
        fence,
        JSON.stringify(saga.steps),
        saga.state,
        saga.fault === undefined ? null : JSON.stringify(saga.fault),
        saga.failures,
        new Date(saga.nextMs),
        leaseMs === 0 ? null : new Date(now + leaseMs),
        new Date(now),
      ],
    })
    if (count === 1) return
    throw new DomainError("LEASE_LOST", "somebody else works on the saga now", {
      metadata: { saga: saga.id },
    })
  }

  async get(scope: CallScope, id: string): Promise<Saga> {
    const { rows } = await this.#database.query<SagaRow>(scope, {
      name: "saga_get",
      text: "select * from sagas where ($1 = '*' or tenant = $1) and id = $2",
      values: [scope.tenant, id],
    })
    const [row] = rows
    if (row === undefined) throw notFound("saga", id)
    return sagaOf(row)
  }

  async list(scope: CallScope, query: SagaQuery, page: PageRequest): Promise<Page<Saga>> {
    const { rows } = await this.#database.query<SagaRow>(scope, {
      name: "saga_list",
      // Ids are made from the time, so they sort as the sagas were begun.
      text: `select * from sagas where ($1 = '*' or tenant = $1) and ($2 = '' or id < $2) and ($3 = '' or kind = $3)
          and ($4 = '' or state = $4) order by id desc limit $5`,
      values: [scope.tenant, page.cursor?.[0] ?? "", query.kind ?? "", query.state ?? "", page.size + 1],
    })
    return pageOf(rows.map(sagaOf), page.size, (last) => [last.id])
  }

  async retry(scope: CallScope, id: string): Promise<Saga> {
    await this.#database.mutate(scope, "sagas.retry", async (tx) => {
      const { rows } = await tx.query<SagaRow>({
        text: "select * from sagas where ($1 = '*' or tenant = $1) and id = $2 for update",
        values: [scope.tenant, id],
      })
      const [row] = rows
      if (row === undefined) throw notFound("saga", id)
      if (row.state !== "stuck") throw notStuck(id, row.state)
      await tx.query({
        text: `update sagas set state = $3, failures = 0, next_time = $4, lease_time = null, update_time = greatest(update_time, $4)
          where tenant = $1 and id = $2`,
        values: [row.tenant, id, directionOf(row.steps), new Date(this.#clock.now())],
      })
      return id
    })
    return this.get(scope, id)
  }

  async sweep(scope: CallScope, beforeMs: number, limit: number): Promise<number> {
    const { count } = await this.#database.query(scope, {
      name: "saga_sweep",
      text: `delete from sagas where (tenant, id) in (select tenant, id from sagas
          where ($1 = '*' or tenant = $1) and state in ('done', 'compensated') and update_time < $2
          order by update_time limit $3 for update skip locked)`,
      values: [scope.tenant, new Date(beforeMs), limit],
    })
    return count
  }

  /** The id of the saga that is under way then, and whether this call has just begun it. */
  async #insert(
    tx: Tx,
    draft: NewSaga,
    now: number,
    leaseMs: number,
  ): Promise<{ id: string; fresh: boolean }> {
    const inserted = await tx.query({
      name: "saga_begin",
      text: `insert into sagas (tenant, id, kind, subject, actor, input, steps, state, failures, next_time, lease_time, fence,
          create_time, update_time)
        values ($1, $2, $3, $4, $5, $6, $7, 'running', 0, $8, $9, 1, $8, $8)
        on conflict (tenant, kind, subject) where ${UNFINISHED} do nothing`,
      values: [
        draft.tenant,
        draft.id,
        draft.kind,
        draft.subject,
        draft.actor,
        JSON.stringify(draft.input),
        JSON.stringify(draft.steps),
        new Date(now),
        new Date(now + leaseMs),
      ],
    })
    if (inserted.count === 1) return { id: draft.id, fresh: true }
    const { rows } = await tx.query<{ id: string }>({
      text: `select id from sagas where tenant = $1 and kind = $2 and subject = $3 and ${UNFINISHED}`,
      values: [draft.tenant, draft.kind, draft.subject],
    })
    const [row] = rows
    if (row !== undefined) return { id: row.id, fresh: false }
    // The other one ended between the two statements.
    return this.#insert(tx, draft, now, leaseMs)
  }
}

function sagaOf(row: SagaRow): Saga {
  return {
    id: row.id,
    kind: row.kind,
    tenant: row.tenant,
    actor: row.actor,
    subject: row.subject,
    input: row.input,
    steps: row.steps,
    state: row.state,
    fault: row.fault ?? undefined,
    failures: row.failures,
    nextMs: row.next_time.getTime(),
    createdMs: row.create_time.getTime(),
    updatedMs: row.update_time.getTime(),
  }
}

/** A saga that was being taken back has a step that says so. */
function directionOf(steps: readonly SagaStep[]): SagaState {
  return steps.some(({ state }) => state === "compensating" || state === "compensated")
    ? "compensating"
    : "running"
}

function notStuck(id: string, state: SagaState): DomainError {
  return new DomainError("FAILED_PRECONDITION", `saga "${id}" is ${state}, not stuck`, {
    metadata: { resource: "saga", name: id, state },
  })
}
