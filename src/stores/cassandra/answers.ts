/** First answers of repeatable calls: rows in the partition that the call changes, written by the same conditional batch. */
import { deserialize, serialize } from "node:v8"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Idempotency } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"

/** How long an answer is kept: a day, so that a client that was offline overnight may repeat. */
export const ANSWER_MS = 24 * 3_600_000
/** The same as a TTL in seconds. */
export const ANSWER_TTL_S = ANSWER_MS / 1_000

/** An item of a group. Its caller's idempotency travels with it, since the group's scope has none. */
export interface Repeatable {
  readonly idempotency: Idempotency | undefined
}

/** A kept answer. */
export interface AnswerRow {
  readonly request: string
  readonly body_hash: Buffer
  readonly result: Buffer
  readonly expires_at: Date
}

/** An answer to be kept. */
export interface NewAnswer {
  readonly request: string
  readonly bodyHash: Buffer
  readonly result: Buffer
  readonly expiresAt: Date
}

/** By what an answer is found; `operation` names the port's method. */
export function requestKey({ method, requestId }: Idempotency, operation: string): string {
  return `${operation} ${method} ${requestId}`
}

/** Tells the items that have to be done from those that were, or are in the same group. */
export class Repetitions<I extends Repeatable, R> {
  readonly fresh: I[] = []
  readonly #operation: (item: I) => string
  /** For every item the index of its outcome in `fresh`, or the outcome itself. */
  readonly #outcomes: (number | Outcome<R>)[] = []

  constructor(items: readonly I[], rows: readonly AnswerRow[], now: number, operation: (item: I) => string) {
    this.#operation = operation
    const answers = new Map(
      rows.filter((row) => row.expires_at.getTime() > now).map((row) => [row.request, row]),
    )
    const firsts = new Map<string, { index: number; bodyHash: Uint8Array }>()
    for (const item of items) {
      const { idempotency } = item
      if (idempotency === undefined) {
        this.#outcomes.push(this.fresh.push(item) - 1)
        continue
      }
      const key = requestKey(idempotency, operation(item))
      const answer = answers.get(key)
      const first = firsts.get(key)
      const hash = answer?.body_hash ?? first?.bodyHash
      if (hash !== undefined && Buffer.compare(hash, idempotency.bodyHash) !== 0) {
        this.#outcomes.push({ ok: false, error: reused(idempotency) })
        // The answer is what an item of the same operation left.
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

  /** What has to be kept of what became of `fresh`. */
  answers(fresh: readonly Outcome<R>[], now: number): readonly NewAnswer[] {
    return this.fresh.flatMap((item, index) => {
      const outcome = fresh[index]
      if (item.idempotency === undefined || outcome?.ok !== true) return []
      return [
        {
          request: requestKey(item.idempotency, this.#operation(item)),
          bodyHash: Buffer.from(item.idempotency.bodyHash),
          result: serialize(outcome.value),
          expiresAt: new Date(now + ANSWER_MS),
        },
      ]
    })
  }

  /** The outcomes of all items, given those of `fresh`. */
  outcomes(fresh: readonly Outcome<R>[]): readonly Outcome<R>[] {
    return this.#outcomes.map((outcome) => {
      const found = typeof outcome === "number" ? fresh[outcome] : outcome
      if (found === undefined) throw new Error("a group must decide every item")
      return found
    })
  }
}

/** The keys under which the answers of a group's items may be. */
export function requestKeys<I extends Repeatable>(
  items: readonly I[],
  operation: (item: I) => string,
): readonly string[] {
  const keys = items.flatMap((item) =>
    item.idempotency === undefined ? [] : [requestKey(item.idempotency, operation(item))],
  )
  return [...new Set(keys)]
}

function reused({ requestId, method }: Idempotency): DomainError {
  return new DomainError(
    "REQUEST_ID_REUSED",
    `request_id "${requestId}" was used for another request; take a new one`,
    { metadata: { request_id: requestId, method } },
  )
}
