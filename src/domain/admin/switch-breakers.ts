/**
 * Operators' hands on the breakers. A breaker's state ends with the process, and so do the request_ids that changed it: what a
 * restart has undone may be done again.
 */
import { DomainError, notFound } from "../kernel/errors.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { BreakerChoice, BreakerView } from "./model.ts"
import type { BreakerControl } from "./ports.ts"

/** A breaker that can be worked by hand. */
export interface SwitchableBreaker {
  state(): BreakerView
  trip(durationMs: number | undefined): void
  reset(): void
}

/** Request_ids that are remembered; people work breakers, so this is years. */
const MAX_REPLAYS = 10_000

interface Replay {
  readonly bodyHash: Uint8Array
  readonly answer: readonly BreakerView[]
}

/** See the top of this file. */
export class BreakerSwitches implements BreakerControl {
  readonly #breakers: readonly SwitchableBreaker[]
  readonly #replays = new Map<string, Replay>()

  constructor(breakers: readonly SwitchableBreaker[]) {
    this.#breakers = breakers
  }

  list(): readonly BreakerView[] {
    return this.#breakers.map((breaker) => breaker.state())
  }

  trip(scope: CallScope, choice: BreakerChoice, durationMs: number | undefined): readonly BreakerView[] {
    return this.#change(scope, choice, (breaker) => breaker.trip(durationMs))
  }

  reset(scope: CallScope, choice: BreakerChoice): readonly BreakerView[] {
    return this.#change(scope, choice, (breaker) => breaker.reset())
  }

  #change(
    { idempotency }: CallScope,
    choice: BreakerChoice,
    change: (breaker: SwitchableBreaker) => void,
  ): readonly BreakerView[] {
    const key = idempotency && `${idempotency.method} ${idempotency.requestId}`
    const known = key === undefined ? undefined : this.#replays.get(key)
    if (known !== undefined && idempotency !== undefined) {
      if (Buffer.compare(known.bodyHash, idempotency.bodyHash) === 0) return known.answer
      throw new DomainError(
        "REQUEST_ID_REUSED",
        "the request_id was used with another body; choose a new one",
        { metadata: { request_id: idempotency.requestId } },
      )
    }
    const chosen = this.#chosen(choice)
    for (const breaker of chosen) change(breaker)
    const answer = chosen.map((breaker) => breaker.state())
    if (key !== undefined && idempotency !== undefined) {
      this.#replays.set(key, { bodyHash: idempotency.bodyHash, answer })
      if (this.#replays.size > MAX_REPLAYS) this.#forgetOldest()
    }
    return answer
  }

  #chosen({ store, operationClass }: BreakerChoice): readonly SwitchableBreaker[] {
    const chosen = this.#breakers.filter((breaker) => {
      const state = breaker.state()
      return (
        state.store === store && (operationClass === undefined || state.operationClass === operationClass)
      )
    })
    if (chosen.length === 0) throw notFound("breaker", store)
    return chosen
  }

  #forgetOldest(): void {
    const [oldest] = this.#replays.keys()
    if (oldest !== undefined) this.#replays.delete(oldest)
  }
}
