/**
 * How much of a store's load may be repetitions. A bucket of tokens: a failure takes one, a success gives a part of one back, and
 * only while more than half of them are left is anything repeated. So a store that fails now and then costs callers nothing, and
 * one that is down is not asked twice as often for it.
 */

/** The size of the bucket and what fills it. */
export interface BudgetSettings {
  readonly tokens: number
  /** Tokens that a success gives back. */
  readonly perSuccess: number
}

/** A budget as it stands. */
export interface BudgetState {
  readonly store: string
  readonly tokens: number
  /** Calls that were sent again, since the start of the daemon. */
  readonly retries: number
  /** Failures that would have been, had there been tokens. */
  readonly refused: number
}

/** See the top of this file. */
export class RetryBudget {
  readonly #store: string
  readonly #settings: BudgetSettings
  #tokens: number
  #retries = 0
  #refused = 0

  constructor(store: string, settings: BudgetSettings) {
    this.#store = store
    this.#settings = settings
    this.#tokens = settings.tokens
  }

  /** A call went well. */
  succeeded(): void {
    const { tokens, perSuccess } = this.#settings
    if (this.#tokens < tokens) this.#tokens = Math.min(tokens, this.#tokens + perSuccess)
  }

  /** A call failed in a way that could be repeated; answers whether it may be. */
  failed(): boolean {
    this.#tokens = Math.max(0, this.#tokens - 1)
    if (this.#tokens > this.#settings.tokens / 2) return true
    this.#refused += 1
    return false
  }

  /** A call is sent again. */
  retried(): void {
    this.#retries += 1
  }

  /** How it stands. */
  state(): BudgetState {
    return { store: this.#store, tokens: this.#tokens, retries: this.#retries, refused: this.#refused }
  }
}
