/** Changes of copies of which nobody knows whether, or when, they arrive: each may still overwrite a newer copy. */
import { DomainError, type Reason } from "../kernel/errors.ts"
import { type CallScope, scopeWith, type TenantId } from "../kernel/scope.ts"
import type { MirrorSource } from "./mirror.ts"
import type { VectorPlace } from "./vector-store.ts"

/** After that long, what a connection still had in it has arrived, or never will. */
const SETTLED_MS = 30_000

/** Failures of which it is known that nothing was sent, or that it was refused. */
const NOT_APPLIED: ReadonlySet<Reason> = new Set<Reason>([
  "STORE_UNAVAILABLE",
  "STORE_AUTH",
  "STORE_FULL",
  "OVERLOADED",
])

interface Doubt {
  readonly tenant: TenantId
  readonly place: VectorPlace
  readonly ids: ReadonlySet<string>
  readonly sinceMs: number
}

/**
 * What one daemon is in doubt about. The vector store compares nothing while it writes, so a late write cannot be kept from winning over the one
 * that followed it; instead its records are owed once more when it must have arrived. A daemon that ends forgets its doubts; the
 * reconciler finds what they were about.
 */
export class MirrorDoubts {
  readonly #source: Pick<MirrorSource, "owe">
  readonly #now: () => number
  #doubts: Doubt[] = []

  constructor(source: Pick<MirrorSource, "owe">, now: () => number) {
    this.#source = source
    this.#now = now
  }

  /** How many changes are in doubt. */
  get size(): number {
    return this.#doubts.length
  }

  /** Runs a change of these copies, and doubts it where its failure leaves its outcome open. */
  async over(
    tenant: TenantId,
    place: VectorPlace,
    ids: readonly string[],
    change: () => Promise<void>,
  ): Promise<void> {
    try {
      await change()
    } catch (error) {
      if (!(error instanceof DomainError && NOT_APPLIED.has(error.reason))) {
        this.#doubts.push({ tenant, place, ids: new Set(ids), sinceMs: this.#now() })
      }
      throw error
    }
  }

  /** Owes the copies that are old enough once more, and answers how many. Raises what {@link MirrorSource.owe} does; the rest stays in doubt. */
  async resolve(scope: CallScope): Promise<number> {
    const before = this.#now() - SETTLED_MS
    const due = this.#doubts.filter(({ sinceMs }) => sinceMs <= before)
    let owed = 0
    for (const own of Map.groupBy(due, ({ tenant, place }) => `${tenant} ${place.ref}`).values()) {
      const [first] = own
      if (first === undefined) continue
      const ids = [...new Set(own.flatMap((doubt) => [...doubt.ids]))]
      await this.#source.owe(scopeWith(scope, { tenant: first.tenant }), first.place, ids)
      const settled = new Set(own)
      this.#doubts = this.#doubts.filter((doubt) => !settled.has(doubt))
      owed += ids.length
    }
    return owed
  }
}
