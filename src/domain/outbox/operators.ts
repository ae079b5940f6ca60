/** The outboxes of all databases, as operators see them. */
import { DomainError, invalidField, notFound } from "../kernel/errors.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { OutboxTopicStatus, ParkedEntry } from "./model.ts"
import type { OutboxStore, ReplaySelection } from "./ports.ts"
import type { OutboxSignals } from "./signals.ts"

/** One database's outbox. */
export interface OperatedOutbox {
  /** The stores of its database joined by `+`, as in the daemon's status. */
  readonly name: string
  readonly store: OutboxStore
  readonly signals: OutboxSignals
}

/** Something of one of the outboxes. */
export type OfOutbox<T> = T & { readonly store: string }

/** Which outbox, and what of it. */
export interface OutboxChoice extends ReplaySelection {
  /** A name of {@link OperatedOutbox}; all of them by default. */
  readonly store?: string | undefined
}

/** What is owed and what is stuck. */
export interface OutboxView {
  readonly topics: readonly OfOutbox<OutboxTopicStatus>[]
  /** Store after store, oldest first. */
  readonly parked: Page<OfOutbox<ParkedEntry>>
  /** Stores that did not answer. */
  readonly unreachable: readonly string[]
}

/** Most entries that one replay makes due again. */
export const REPLAY_MAX = 10_000

/** Shows what is owed and what is stuck, and has it tried again. */
export class OutboxOperators {
  readonly #outboxes: readonly OperatedOutbox[]

  constructor(outboxes: readonly OperatedOutbox[]) {
    this.#outboxes = outboxes
  }

  /** Topics by store and name, and a page of parked entries. NOT_FOUND for an unknown store, STORE_UNAVAILABLE when none answers. */
  async list(scope: CallScope, { store, topic }: OutboxChoice, page: PageRequest): Promise<OutboxView> {
    const chosen = this.#chosen(store)
    const answers = await Promise.allSettled(chosen.map((one) => one.store.status(scope)))
    const reached = chosen.filter((_, at) => answers[at]?.status === "fulfilled")
    const failed = answers.find((answer) => answer.status === "rejected")
    if (failed !== undefined && reached.length === 0) throw failed.reason
    const topics = answers.flatMap((answer, at) => {
      const found = answer.status === "fulfilled" ? answer.value : []
      return found.map((status) => ({ ...status, store: chosen[at]?.name ?? "" }))
    })
    return {
      topics: topics.filter((status) => topic === undefined || status.topic === topic),
      parked: await parkedPage(scope, reached, topic, page),
      unreachable: chosen.filter((one) => !reached.includes(one)).map(({ name }) => name),
    }
  }

  /**
   * Makes parked entries due again, at most {@link REPLAY_MAX} of each store; answers how many. INVALID_FIELD for ids without
   * a store where there are several, NOT_FOUND for an unknown store, REQUEST_ID_REUSED, STORE_UNAVAILABLE, OUTCOME_UNKNOWN.
   */
  async replay(scope: CallScope, { store, topic, ids }: OutboxChoice): Promise<number> {
    const chosen = this.#chosen(store)
    if (ids !== undefined && chosen.length > 1)
      throw invalidField("store", "is needed with entry_ids, for several stores have an outbox")
    let count = 0
    for (const one of chosen) {
      const topics = (await one.store.status(scope)).map((status) => status.topic)
      count += await one.store.replay(scope, { topic, ids }, REPLAY_MAX)
      for (const each of topics) one.signals.committed(each)
    }
    return count
  }

  #chosen(store: string | undefined): readonly OperatedOutbox[] {
    if (store === undefined) return this.#outboxes
    const chosen = this.#outboxes.filter(({ name }) => name === store)
    if (chosen.length === 0) throw notFound("store", store)
    return chosen
  }
}

/** The cursor is the name of the outbox that the page goes on with, and the cursor within it. */
async function parkedPage(
  scope: CallScope,
  outboxes: readonly OperatedOutbox[],
  topic: string | undefined,
  { size, cursor }: PageRequest,
): Promise<Page<OfOutbox<ParkedEntry>>> {
  const [name, ...rest] = cursor ?? []
  const first = name === undefined ? 0 : outboxes.findIndex((one) => one.name === name)
  if (first < 0)
    throw new DomainError("STORE_UNAVAILABLE", "the store that the page is of does not answer; retry later")
  let within: readonly string[] | undefined = rest.length === 0 ? undefined : rest
  const items: OfOutbox<ParkedEntry>[] = []
  for (const one of outboxes.slice(first)) {
    if (items.length >= size) return { items, next: [one.name] }
    const page = await one.store.listParked(scope, topic, { size: size - items.length, cursor: within })
    items.push(...page.items.map((entry) => ({ ...entry, store: one.name })))
    if (page.next !== undefined) return { items, next: [one.name, ...page.next] }
    within = undefined
  }
  return { items }
}
