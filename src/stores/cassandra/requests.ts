/** First answers of repeatable calls, and which body a request_id was used for, wherever its effect is. */
import { randomUUID } from "node:crypto"
import { deserialize, serialize } from "node:v8"
import { DomainError } from "../../domain/kernel/errors.ts"
import { type CallScope, type Idempotency, scopeWith } from "../../domain/kernel/scope.ts"
import { ANSWER_TTL_S, requestKey } from "./answers.ts"
import type { Applied, Cluster } from "./database.ts"
import { isUnknown, storeUnavailable } from "./errors.ts"

/** How often a claim whose answer is lost is sent again. */
const SENDS = 3

interface RequestRow {
  readonly body_hash: Buffer | null
  readonly owner: { toString(): string } | null
  readonly result: Buffer | null
}

/** A request_id that is ours to use, or its first answer. */
type Claim =
  | { readonly fresh: true; readonly owner: string }
  | { readonly fresh: false; readonly result: Buffer | null }

/** See the file's comment. */
export class Requests {
  readonly #cluster: Cluster
  /** Calls of this daemon that are not over, by request: the first one's body holds for all. */
  readonly #underWay = new Map<string, { readonly bodyHash: Uint8Array; calls: number }>()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /**
   * Runs `work`, which must come to the same when it runs again; repetitions of a call that ended well answer what it
   * answered. Rejects with REQUEST_ID_REUSED for another body. A call that failed for certain frees its request_id.
   */
  async once<R>(scope: CallScope, operation: string, work: () => Promise<R>): Promise<R> {
    const { idempotency } = scope
    if (idempotency === undefined) return work()
    return this.#counted(scope, operation, idempotency, () => this.#once(scope, operation, idempotency, work))
  }

  async #once<R>(
    scope: CallScope,
    operation: string,
    idempotency: Idempotency,
    work: () => Promise<R>,
  ): Promise<R> {
    const claim = await this.#claim(scope, operation, idempotency)
    // The answer is what the same operation stored.
    if (!claim.fresh && claim.result !== null) return deserialize(claim.result) as R
    const result = await this.#guarded(scope, operation, idempotency, claim, work)
    const keeping = this.#cluster.cas(scope, [
      {
        cql: `update requests using ttl ${ANSWER_TTL_S} set result = ? where tenant = ? and request = ? if body_hash = ?`,
        values: [
          serialize(result),
          scope.tenant,
          requestKey(idempotency, operation),
          Buffer.from(idempotency.bodyHash),
        ],
      },
    ])
    // The work is done, whatever becomes of this: without a kept answer a repetition does it again, to the same end.
    await Promise.allSettled([keeping])
    return result
  }

  /** Runs `work`, which keeps its own answers, and only guards the request_id against another body elsewhere. */
  async guard<R>(scope: CallScope, operation: string, work: () => Promise<R>): Promise<R> {
    const { idempotency } = scope
    if (idempotency === undefined) return work()
    return this.#counted(scope, operation, idempotency, async () => {
      const claim = await this.#claim(scope, operation, idempotency)
      return this.#guarded(scope, operation, idempotency, claim, work)
    })
  }

  async #counted<R>(
    { tenant }: CallScope,
    operation: string,
    idempotency: Idempotency,
    work: () => Promise<R>,
  ): Promise<R> {
    const key = `${tenant} ${requestKey(idempotency, operation)}`
    const entry = this.#underWay.get(key) ?? { bodyHash: idempotency.bodyHash, calls: 0 }
    if (Buffer.compare(entry.bodyHash, idempotency.bodyHash) !== 0) throw reused(idempotency)
    entry.calls++
    this.#underWay.set(key, entry)
    try {
      return await work()
    } finally {
      if (--entry.calls === 0) this.#underWay.delete(key)
    }
  }

  async #guarded<R>(
    scope: CallScope,
    operation: string,
    idempotency: Idempotency,
    claim: Claim,
    work: () => Promise<R>,
  ): Promise<R> {
    try {
      return await work()
    } catch (error) {
      if (claim.fresh && error instanceof DomainError && !isUnknown(error))
        await this.#free(scope, operation, idempotency, claim.owner)
      throw error
    }
  }

  async #claim(scope: CallScope, operation: string, idempotency: Idempotency): Promise<Claim> {
    const owner = randomUUID()
    const bodyHash = Buffer.from(idempotency.bodyHash)
    const key = requestKey(idempotency, operation)
    const { applied, current } = await this.#insert(scope, [scope.tenant, key, bodyHash, owner])
    if (applied) return { fresh: true, owner }
    // The columns are those of the table.
    const row = current[0] as unknown as RequestRow | undefined
    if (row?.body_hash == null) throw inProgress()
    if (row.owner?.toString() === owner) return { fresh: true, owner }
    if (!row.body_hash.equals(bodyHash)) throw reused(idempotency)
    return { fresh: false, result: row.result }
  }

  /** Sent again where the answer is lost: it tells then whether it was our own. Nothing else is done before, so it may fail. */
  async #insert(scope: CallScope, values: readonly unknown[]): Promise<Applied> {
    const statement = {
      cql: `insert into requests (tenant, request, body_hash, owner) values (?, ?, ?, ?) if not exists using ttl ${ANSWER_TTL_S}`,
      values,
    }
    for (let send = 1; ; send++) {
      try {
        return await this.#cluster.cas(scope, [statement])
      } catch (error) {
        if (!isUnknown(error)) throw error
        if (send === SENDS) throw storeUnavailable(error)
      }
    }
  }

  /** Where this fails the request_id stays with its body for a day, which is no harm to a repetition. */
  async #free(scope: CallScope, operation: string, idempotency: Idempotency, owner: string): Promise<void> {
    const { tenant } = scope
    const free = this.#cluster.cas(
      scopeWith(scope, { deadlineMs: Number.POSITIVE_INFINITY, signal: NEVER }),
      [
        {
          cql: "delete from requests where tenant = ? and request = ? if owner = ?",
          values: [tenant, requestKey(idempotency, operation), owner],
        },
      ],
    )
    await Promise.allSettled([free])
  }
}

const NEVER = new AbortController().signal

function inProgress(): DomainError {
  return new DomainError(
    "REQUEST_IN_PROGRESS",
    "the first call with this request_id is not over; repeat it",
    {
      retryDelayMs: 100,
    },
  )
}

function reused({ requestId, method }: Idempotency): DomainError {
  return new DomainError(
    "REQUEST_ID_REUSED",
    `request_id "${requestId}" was used for another request; take a new one`,
    { metadata: { request_id: requestId, method } },
  )
}
