/** Runs sagas: at once for whoever asked, and again in the background until they are over. */
import type { Clock } from "../kernel/clock.ts"
import { DomainError, type Reason } from "../kernel/errors.ts"
import type { JsonObject } from "../kernel/json.ts"
import type { Logger } from "../kernel/logger.ts"
import { pause } from "../kernel/pause.ts"
import { type CallScope, scopeWith, systemScope } from "../kernel/scope.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import { isOver, type Saga, type SagaFault, type SagaStep } from "./model.ts"
import type { LeasedSaga, SagaStore } from "./ports.ts"

/** What a step is told. */
export interface StepContext {
  readonly saga: Saga
  /** The same on every run of this step: for targets that tell repetitions apart. */
  readonly opId: string
  /** What an earlier step answered; empty where it has not run. */
  result(step: string): JsonObject
}

/** One step. It may run any number of times and must have its effect once. */
export interface StepDefinition {
  readonly name: string
  run(scope: CallScope, context: StepContext): Promise<JsonObject | undefined>
  /** Takes it back once it is done. A step without it is not taken back. */
  undo?(scope: CallScope, context: StepContext): Promise<void>
  /** A refusal may leave parts of the step behind, so that it is taken back as well. Otherwise a refusal means that nothing happened. */
  readonly partial?: boolean
}

/** A kind of saga. */
export interface SagaDefinition {
  readonly kind: string
  readonly steps: readonly StepDefinition[]
  /**
   * The first step after which there is no way back: from then on a refusal is tried again instead of turning the saga round.
   * Undefined: every step can be taken back.
   */
  readonly pivot?: string | undefined
}

/** What {@link SagaRunner.start} begins. */
export interface SagaRequest {
  readonly kind: string
  readonly subject: string
  readonly input: JsonObject
}

/** How {@link SagaRunner} works. Times in milliseconds. */
export interface SagaRunnerOptions {
  /** How long a daemon that died keeps others from a saga. One that lives renews its lease while a step goes on. Default 30 s. */
  readonly leaseMs?: number
  /** Longest time for what is done of a saga in one go in the background. Default 15 min. */
  readonly workMs?: number
  /** How long {@link SagaRunner.tick} waits for sagas that it took before it leaves them to themselves. Default 1 s. */
  readonly patienceMs?: number
  /** Failures in a row after which a saga is stuck. Default 30, which with the pauses is about an hour. */
  readonly maxFailures?: number
}

const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 300_000
/** Sagas worked on side by side in the background. No more are taken: none waits while its lease runs out. */
const MOST_AT_ONCE = 10
/** Longest time to keep progress: whoever stops must not wait for a store that hangs. */
const SAVE_MS = 10_000

/** The store is sick or in doubt: says nothing about the step. */
const TRANSIENT: ReadonlySet<Reason> = new Set<Reason>([
  "STORE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "OVERLOADED",
  "DRAINING",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "STORE_AUTH",
  "SCHEMA_MISMATCH",
  "REQUEST_IN_PROGRESS",
])

/** See the file's comment. */
export class SagaRunner {
  readonly #store: SagaStore
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #leaseMs: number
  readonly #workMs: number
  readonly #patienceMs: number
  readonly #maxFailures: number
  readonly #definitions: ReadonlyMap<string, SagaDefinition>
  /** Sagas taken in the background that go on. */
  readonly #working = new Set<Promise<void>>()

  constructor(
    deps: { readonly store: SagaStore; readonly clock: Clock; readonly logger: Logger },
    definitions: readonly SagaDefinition[],
    options: SagaRunnerOptions = {},
  ) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#logger = deps.logger
    this.#leaseMs = options.leaseMs ?? 30_000
    this.#workMs = options.workMs ?? 900_000
    this.#patienceMs = options.patienceMs ?? 1_000
    this.#maxFailures = options.maxFailures ?? 30
    this.#definitions = new Map(definitions.map((definition) => [definition.kind, definition]))
  }

  /**
   * Begins a saga and works on it until it is over, a store is away or the scope ends; in the last two cases the background goes
   * on, and the answer says where it is. Rejects with what a step refused once everything is taken back.
   */
  async start(scope: CallScope, request: SagaRequest): Promise<Saga> {
    const { steps } = this.#definition(request.kind)
    const leased = await this.#store.begin(
      scope,
      {
        ...request,
        id: uuid7(),
        tenant: scope.tenant,
        actor: scope.actor,
        steps: steps.map(({ name }): SagaStep => ({ name, state: "pending", attempts: 0, result: {} })),
      },
      this.#leaseMs,
    )
    const saga = leased.fence === 0n ? leased.saga : await this.#begun(scope, leased)
    if (saga.state === "compensated" && saga.fault !== undefined) throw refusal(saga.fault)
    return saga
  }

  /**
   * Works on what is due; answers how many sagas it took. One that takes long is no reason for others to wait: it goes on after a
   * while of patience, until it pauses or the scope ends. For a sweeper of the daemon. Rejects with what kept a saga from being kept.
   */
  async tick(scope: CallScope): Promise<number> {
    const free = MOST_AT_ONCE - this.#working.size
    if (free <= 0) return 0
    const leased = await this.#store.claim(scope, free, this.#leaseMs)
    if (leased.length === 0) return 0
    const failures: unknown[] = []
    let waiting = true
    const works = leased.map((each) =>
      this.#work(scope.signal, each).catch((error: unknown) => {
        if (waiting) failures.push(error)
        else this.#tellLost(each.saga, error)
      }),
    )
    const enough = new AbortController()
    await Promise.race([Promise.all(works), pause(this.#patienceMs, enough.signal)])
    enough.abort()
    waiting = false
    if (failures.length > 0) throw failures[0]
    return leased.length
  }

  /** Resolves when none of the sagas that {@link tick} took is worked on any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#working)
  }

  /** The background's share of a saga. */
  #work(signal: AbortSignal, leased: LeasedSaga): Promise<void> {
    const { tenant, actor } = leased.saga
    const scope = { ...systemScope(tenant, signal), actor, deadlineMs: Date.now() + this.#workMs }
    const work = this.#drive(scope, leased).then(() => undefined)
    const ended = work.catch(() => undefined).finally(() => this.#working.delete(ended))
    this.#working.add(ended)
    return work
  }

  #tellLost({ id }: Saga, error: unknown): void {
    this.#logger.warn(
      { saga: id, err: error },
      "the progress of a saga could not be kept; it goes on when its lease has ended",
    )
  }

  /** {@link #drive} for whoever began the saga: what is begun goes on, so that it cannot be kept now is no refusal. */
  async #begun(scope: CallScope, leased: LeasedSaga): Promise<Saga> {
    try {
      return await this.#drive(scope, leased)
    } catch (error) {
      if (!(error instanceof DomainError && isTransient(error))) throw error
      this.#logger.warn(
        { saga: leased.saga.id, reason: error.reason },
        "the progress of a saga could not be kept; the background goes on",
      )
      return leased.saga
    }
  }

  #definition(kind: string): SagaDefinition {
    const found = this.#definitions.get(kind)
    if (found === undefined) throw new Error(`no definition of the saga ${kind}`)
    return found
  }

  /** One lease's work. Losing the lease is no failure: somebody else is at it. */
  async #drive(scope: CallScope, { saga: begun, fence }: LeasedSaga): Promise<Saga> {
    // The caller's idempotency key is the saga's, not that of each mutation inside.
    const inner: CallScope = {
      tenant: scope.tenant,
      actor: scope.actor,
      deadlineMs: scope.deadlineMs,
      signal: scope.signal,
      trace: scope.trace,
    }
    let saga = begun
    try {
      while (!isOver(saga) && saga.state !== "stuck") {
        const before = saga
        saga = await this.#holding(inner, fence, before, (held) => this.#advance(held, before))
        const pausing = saga.failures > before.failures
        const ended = isOver(saga) || saga.state === "stuck" || pausing
        await this.#keep(fence, saga, ended ? 0 : this.#leaseMs)
        if (pausing) return saga
      }
      return saga
    } catch (error) {
      if (error instanceof DomainError && error.reason === "LEASE_LOST") return saga
      throw error
    }
  }

  #keep(fence: bigint, saga: Saga, leaseMs: number): Promise<void> {
    const scope = { ...systemScope(saga.tenant), deadlineMs: Date.now() + SAVE_MS }
    return this.#store.save(scope, fence, saga, leaseMs)
  }

  /** Renews the lease while `work` goes on, which ends when somebody else has it all the same. */
  async #holding<T>(
    scope: CallScope,
    fence: bigint,
    saga: Saga,
    work: (scope: CallScope) => Promise<T>,
  ): Promise<T> {
    const lost = new AbortController()
    let renewal: Promise<void> | undefined
    const renew = async (): Promise<void> => {
      try {
        await this.#keep(fence, saga, this.#leaseMs)
      } catch (error) {
        // Otherwise the next one may do, and without any the fence keeps two from saving.
        if (error instanceof DomainError && error.reason === "LEASE_LOST")
          lost.abort(new DomainError("CANCELLED", "somebody else works on the saga now"))
        else this.#logger.warn({ saga: saga.id, err: error }, "the lease of a saga could not be renewed")
      } finally {
        renewal = undefined
      }
    }
    const timer = setInterval(() => {
      renewal ??= renew()
    }, this.#leaseMs / 3).unref()
    try {
      return await work(scopeWith(scope, { signal: AbortSignal.any([scope.signal, lost.signal]) }))
    } finally {
      clearInterval(timer)
      // It says what was before, and must not come after what is now.
      await renewal
    }
  }

  /** Runs the next step, forwards or backwards, and answers the saga after it. Never rejects for what a step says. */
  async #advance(scope: CallScope, saga: Saga): Promise<Saga> {
    const backwards = saga.state === "compensating"
    const at = backwards
      ? saga.steps.findLastIndex(({ state }) => state === "done" || state === "compensating")
      : saga.steps.findIndex(({ state }) => state === "pending")
    const step = saga.steps[at]
    if (step === undefined) return { ...saga, state: backwards ? "compensated" : "done", failures: 0 }
    const definition = this.#definition(saga.kind).steps.find(({ name }) => name === step.name)
    if (definition === undefined) return this.#stuck(saga, missing(step.name))
    try {
      if (backwards) {
        await definition.undo?.(scope, contextOf(saga, step.name))
        return this.#moved(saga, at, { state: "compensated", attempts: step.attempts + 1 })
      }
      const result = (await definition.run(scope, contextOf(saga, step.name))) ?? {}
      return this.#moved(saga, at, { state: "done", attempts: step.attempts + 1, result })
    } catch (error) {
      return this.#failed(saga, at, faultOf(error, step.name), error)
    }
  }

  #moved(saga: Saga, at: number, change: Partial<SagaStep>): Saga {
    const steps = saga.steps.map((step, index) => (index === at ? { ...step, ...change } : step))
    const open = saga.state === "compensating" ? steps.some(toTakeBack) : steps.some(isPending)
    const over = saga.state === "compensating" ? "compensated" : "done"
    return { ...saga, steps, failures: 0, state: open ? saga.state : over }
  }

  #failed(saga: Saga, at: number, fault: SagaFault, error: unknown): Saga {
    const failures = saga.failures + 1
    const steps = saga.steps.map((step, index) =>
      index === at ? { ...step, attempts: step.attempts + 1 } : step,
    )
    const tried = { ...saga, steps, failures, fault: saga.state === "compensating" ? saga.fault : fault }
    if (!isTransient(error) && saga.state === "running" && !this.#isPastPivot(saga))
      return this.#turned(tried, at)
    // A store may be away for days; what it was to do is done when it is back.
    const away = error instanceof DomainError && isTransient(error)
    if (!away && failures >= this.#maxFailures) return this.#stuck(tried, fault)
    const wait = Math.min(RETRY_MIN_MS * 2 ** Math.min(failures - 1, 20), RETRY_MAX_MS)
    return { ...tried, nextMs: this.#clock.now() + wait * (0.75 + Math.random() / 2) }
  }

  /** Back to the beginning. */
  #turned(saga: Saga, at: number): Saga {
    const refused = saga.steps[at]?.name
    const partial = this.#definition(saga.kind).steps.some((each) => each.name === refused && each.partial)
    const steps = saga.steps.map((step, index): SagaStep => {
      return index === at && partial ? { ...step, state: "compensating" } : step
    })
    const state = steps.some(toTakeBack) ? "compensating" : "compensated"
    return { ...saga, steps, state, failures: 0 }
  }

  #stuck(saga: Saga, fault: SagaFault): Saga {
    this.#logger.error(
      { saga: saga.id, kind: saga.kind, step: fault.step, reason: fault.reason },
      "a saga is stuck; AdminService.RetrySaga tries it again",
    )
    return { ...saga, state: "stuck", fault }
  }

  #isPastPivot(saga: Saga): boolean {
    const { pivot } = this.#definition(saga.kind)
    return pivot !== undefined && saga.steps.some(({ name, state }) => name === pivot && state === "done")
  }
}

const isPending = ({ state }: SagaStep) => state === "pending"
const toTakeBack = ({ state }: SagaStep) => state === "done" || state === "compensating"

function contextOf(saga: Saga, step: string): StepContext {
  return {
    saga,
    opId: `${saga.id}/${step}`,
    result: (name) => saga.steps.find((each) => each.name === name)?.result ?? {},
  }
}

function isTransient(error: unknown): boolean {
  return !(error instanceof DomainError) || TRANSIENT.has(error.reason)
}

function faultOf(error: unknown, step: string): SagaFault {
  if (!(error instanceof DomainError))
    return { reason: "INTERNAL", message: "internal error", metadata: {}, step }
  return { reason: error.reason, message: error.message, metadata: error.metadata, step }
}

function missing(step: string): SagaFault {
  return { reason: "INTERNAL", message: "this version does not know the step", metadata: {}, step }
}

/** What the step said, for the caller who waited for it. */
function refusal({ reason, message, metadata }: SagaFault): DomainError {
  return new DomainError(reason as Reason, message, { metadata })
}
