import { DomainError } from "../domain/kernel/errors.ts"
import type { Acceptor } from "./acceptor.ts"
import type { Call } from "./call.ts"

/** The messages of a request stream, each decoded and validated when the handler asks for it. An abort ends a pending wait. */
export class Requests implements AsyncIterable<object>, AsyncIterator<object> {
  readonly #call: Call
  readonly #accept: Acceptor["accept"]
  readonly #source: AsyncIterator<unknown>
  #rejectPending: ((reason: unknown) => void) | undefined

  constructor(call: Call, accept: Acceptor["accept"]) {
    if (call.incoming === undefined) throw new Error(`${call.method} has no request stream`)
    this.#call = call
    this.#accept = accept
    this.#source = call.incoming[Symbol.asyncIterator]()
    const abort = call.onAbort
    call.onAbort = (reason) => {
      this.#rejectPending?.(reason)
      abort?.(reason)
    }
  }

  [Symbol.asyncIterator](): AsyncIterator<object> {
    return this
  }

  next(): Promise<IteratorResult<object>> {
    const aborted = this.#call.abortReason
    if (aborted !== undefined) return Promise.reject(aborted)
    return new Promise((resolve, reject) => {
      this.#rejectPending = reject
      this.#source.next().then(
        (result) => this.#take(result, resolve, reject),
        (cause: unknown) => reject(this.#interrupted(cause)),
      )
    })
  }

  async return(): Promise<IteratorResult<object>> {
    await this.#source.return?.()
    return { done: true, value: undefined }
  }

  #take(
    result: IteratorResult<unknown>,
    resolve: (result: IteratorResult<object>) => void,
    reject: (reason: unknown) => void,
  ): void {
    try {
      if (result.done === true) resolve({ done: true, value: undefined })
      else resolve({ done: false, value: this.#accept(result.value) })
    } catch (refusal) {
      reject(refusal)
    }
  }

  #interrupted(cause: unknown): DomainError {
    if (cause instanceof DomainError) return cause
    return this.#call.abortReason ?? new DomainError("CANCELLED", "the request stream broke off", { cause })
  }
}
