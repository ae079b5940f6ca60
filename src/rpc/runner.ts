import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt"
import { DomainError, type Reason } from "../domain/kernel/errors.ts"
import type { ActiveCalls } from "./active-calls.ts"
import type { Call } from "./call.ts"
import type { MethodInfo } from "./compile.ts"
import type { AnyHandler, CallContext } from "./handler.ts"
import type { Step } from "./interceptors/step.ts"
import { Requests } from "./requests.ts"
import { type RpcStatus, statusOf } from "./status.ts"

/** What ends calls from outside although somebody waits for their answer. */
const LATE: ReadonlySet<Reason> = new Set(["DEADLINE_EXCEEDED", "DRAINING"])

/** Takes the calls of one method through its steps and its handler to their end. Synchronous as far as the parts are. */
export class Runner {
  readonly #info: MethodInfo
  readonly #handler: (request: unknown, ctx: CallContext) => unknown
  readonly #steps: readonly Step[]
  readonly #active: ActiveCalls
  /** Whether its calls may change something and end by themselves. */
  readonly #changes: boolean

  constructor(info: MethodInfo, handler: AnyHandler, steps: readonly Step[], active: ActiveCalls) {
    this.#info = info
    this.#handler = handler as (request: unknown, ctx: CallContext) => unknown
    this.#steps = steps
    this.#active = active
    const { idempotency } = info.desc
    this.#changes =
      info.kind === "unary" &&
      !info.longLived &&
      idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS
  }

  run(call: Call): void {
    this.#enter(call, 0)
  }

  #enter(call: Call, from: number): void {
    const steps = this.#steps
    try {
      for (let index = from; index < steps.length; index++) {
        const step = steps[index] as Step
        const pending = step.enter?.(call)
        if (pending !== undefined) {
          this.#enterLater(call, step, index, pending)
          return
        }
        call.entered = index + 1
        if (call.waiting) step.wait?.(call)
      }
      this.#handle(call)
    } catch (thrown) {
      this.#fail(call, thrown)
    }
  }

  #enterLater(call: Call, step: Step, index: number, pending: Promise<void>): void {
    this.#wait(call)
    pending.then(
      () => {
        if (call.settled) return
        call.entered = index + 1
        step.wait?.(call)
        this.#enter(call, index + 1)
      },
      (thrown: unknown) => this.#fail(call, thrown),
    )
  }

  #handle(call: Call): void {
    const { kind } = this.#info
    if (kind !== "unary") this.#wait(call)
    const takesStream = kind === "client_streaming" || kind === "bidi_streaming"
    const result = this.#handler(takesStream ? this.#requests(call) : call.request, call)
    if (kind === "unary" || kind === "client_streaming") this.#settleWith(call, result)
    else this.#stream(call, result)
  }

  #requests(call: Call): AsyncIterable<object> {
    return new Requests(call, this.#info.accept)
  }

  #settleWith(call: Call, result: unknown): void {
    if (!isThenable(result)) {
      this.#succeed(call, result)
      return
    }
    this.#wait(call)
    result.then(
      (response) => this.#succeed(call, response),
      (thrown: unknown) => this.#fail(call, thrown),
    )
  }

  #stream(call: Call, answers: unknown): void {
    const iterator = (answers as AsyncIterable<object>)[Symbol.asyncIterator]()
    this.#pump(call, iterator).then(
      () => this.#succeed(call, undefined),
      (thrown: unknown) => {
        this.#fail(call, thrown)
        closeQuietly(iterator)
      },
    )
  }

  async #pump(call: Call, iterator: AsyncIterator<object>): Promise<void> {
    // An aborted stream is answered at once; its iterator is told to stop and may take its time.
    call.onSettled = () => closeQuietly(iterator)
    for (;;) {
      const next = await iterator.next()
      if (call.settled || next.done === true) return
      const blocked = call.write(next.value)
      if (blocked !== undefined) await blocked
      if (call.settled) return
    }
  }

  /** The call cannot be answered synchronously: from now on it can be aborted, and a timer watches its deadline. */
  #wait(call: Call): void {
    if (call.waiting) return
    call.waiting = true
    this.#active.add(call)
    // A handler that heeds the signal knows more than the abort does (was the write applied?): it gets one turn to say so.
    call.onAbort = (reason) => setImmediate(() => this.#fail(call, this.#meant(call, reason)))
    for (let index = 0; index < call.entered; index++) this.#steps[index]?.wait?.(call)
    call.watchCancel()
  }

  /** What an abort means for a call whose handler has not said so: a change under way is not known to have been left undone. */
  #meant(call: Call, reason: DomainError): DomainError {
    const begun = call.entered === this.#steps.length
    if (!begun || !this.#changes || !LATE.has(reason.reason)) return reason
    const message =
      "the change was under way when the call had to end and may have been made; retry with the same request_id"
    return new DomainError("OUTCOME_UNKNOWN", message, { cause: reason })
  }

  #succeed(call: Call, response: unknown): void {
    if (call.settled) return
    call.settled = true
    try {
      call.finish(undefined, response as object | undefined)
    } catch (thrown) {
      call.status = this.#statusOf(call, thrown)
      call.finish(call.status, undefined)
    }
    this.#leave(call)
  }

  #fail(call: Call, thrown: unknown): void {
    if (call.settled) return
    call.settled = true
    call.status = this.#statusOf(call, thrown)
    call.finish(call.status, undefined)
    this.#leave(call)
  }

  #statusOf(call: Call, thrown: unknown): RpcStatus {
    for (const step of this.#steps) {
      if (step.fail !== undefined) return step.fail(call, thrown)
    }
    return statusOf(thrown instanceof DomainError ? thrown : new DomainError("INTERNAL", "internal error"))
  }

  #leave(call: Call): void {
    for (let index = call.entered - 1; index >= 0; index--) this.#steps[index]?.leave?.(call)
    if (call.waiting) this.#active.delete(call)
    call.onSettled?.()
  }
}

function isThenable(value: unknown): value is Promise<unknown> {
  return typeof (value as { then?: unknown } | undefined)?.then === "function"
}

/** The stream has its status already; what the iterator throws while it closes has nobody left to hear it. */
function closeQuietly(iterator: AsyncIterator<object>): void {
  iterator.return?.().then(undefined, () => {})
}
