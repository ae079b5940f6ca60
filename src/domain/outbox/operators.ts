/** The outboxes of all databases, as operators see them. */
import { invalidField, notFound } from "../kernel/errors.ts"
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

/** Most entries that one replay makes due again. */
export const REPLAY_MAX = 10_000

/** Shows what is owed and what is stuck, and has it tried again. */
export class OutboxOperators {
  readonly #outboxes: readonly OperatedOutbox[]

  constructor(outboxes: readonly OperatedOutbox[]) {
    this.#outboxes = outboxes
  }

  /** Topics by store and name. NOT_FOUND for an unknown store, STORE_UNAVAILABLE. */
  async status(
    scope: CallScope,
    { store, topic }: OutboxChoice,
  ): Promise<readonly OfOutbox<OutboxTopicStatus>[]> {
    const lists = await Promise.all(
      this.#chosen(store).map(async (one) =>
        (await one.store.status(scope)).map((status) => ({ ...status, store: one.name })),
      ),
    )
    return lists.flat().filter((status) => topic === undefined || status.topic === topic)
  }

  /** Parked entries, store after store, oldest first. NOT_FOUND for an unknown store, STORE_UNAVAILABLE. */
  async listParked(
    scope: CallScope,
    { store, topic }: OutboxChoice,
    { size, cursor }: PageRequest,
  ): Promise<Page<OfOutbox<ParkedEntry>>> {
    const [name, ...inner] = cursor ?? []
    const chosen = this.#chosen(store)
    let at = name === undefined ? 0 : chosen.findIndex((one) => one.name === name)
    if (at < 0) throw notFound("store", name ?? "")
    const items: OfOutbox<ParkedEntry>[] = []
    let within = inner.length === 0 ? undefined : inner
    for (; at < chosen.length; at++) {
      const one = chosen[at]
      if (one === undefined) break
      if (items.length >= size) return { items, next: [one.name] }
      const page = await one.store.listParked(scope, topic, { size: size - items.length, cursor: within })
      items.push(...page.items.map((entry) => ({ ...entry, store: one.name })))
      if (page.next !== undefined) return { items, next: [one.name, ...page.next] }
      within = undefined
    }
    return { items }
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
