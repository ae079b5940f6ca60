/**
 * Seeded faults in front of the stores, for tests. The innermost decorator, so that everything around it meets what a sick store
 * would do: refuse, lose an answer, be slow, hang. The same seed and the same calls give the same faults.
 */
import { DomainError } from "../../domain/kernel/errors.ts"
import { pause } from "../../domain/kernel/pause.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Fault, FaultRule } from "./fault-rules.ts"
import type { Decorate, DecoratedKind, PortMethod } from "./wrap.ts"

/** A fault that happened. */
export interface FaultEvent {
  /** `<store>/<port>/<method>`. */
  readonly operation: string
  /** The number of the call among all calls to stores, from 1. */
  readonly call: number
  readonly fault: Fault["kind"]
}

/** What a plan is made of. */
export interface FaultPlanOptions {
  readonly seed: number
  readonly rules?: readonly FaultRule[]
  /** Told of each fault. */
  onFault?(event: FaultEvent): void
}

interface ArmedRule {
  readonly rule: FaultRule
  matched: number
  happened: number
}

/** Which faults happen to which calls. One plan serves all stores of a daemon, and may be changed while it runs. */
export class FaultPlan {
  readonly seed: number
  readonly #onFault: ((event: FaultEvent) => void) | undefined
  #rules: readonly ArmedRule[] = []
  #random: () => number
  #calls = 0

  constructor({ seed, rules = [], onFault }: FaultPlanOptions) {
    this.seed = seed
    this.#onFault = onFault
    this.#random = seededRandom(seed)
    this.arm(rules)
  }

  /** Calls to stores since the start or the last {@link arm}. */
  get calls(): number {
    return this.#calls
  }

  /** Replaces the rules and begins anew: counters at zero, the random numbers from the seed. */
  arm(rules: readonly FaultRule[]): void {
    this.#rules = rules.map((rule) => ({ rule, matched: 0, happened: 0 }))
    this.#random = seededRandom(this.seed)
    this.#calls = 0
  }

  /** Fails the n-th call to any store from now on, and no other. */
  failNth(n: number, kind: "before" | "after" = "before"): void {
    const when = { kind: "call", n } as const
    this.arm([{ store: "*", port: "*", method: "*", when, times: 1, fault: { kind } }])
  }

  /** No more faults; calls are counted on. */
  disarm(): void {
    this.#rules = []
  }

  /** The faults of the calls of `port` to `store`. */
  decorate(store: string, port: string): Decorate {
    return (name, kind, method) =>
      kind === "stream"
        ? this.#stream([store, port, name], method)
        : this.#call([store, port, name], kind, method)
  }

  #next(names: Names): Fault | undefined {
    this.#calls += 1
    for (const armed of this.#rules) {
      if (!matches(armed.rule, names)) continue
      armed.matched += 1
      if (armed.happened >= armed.rule.times || !this.#applies(armed)) continue
      armed.happened += 1
      this.#onFault?.({ operation: names.join("/"), call: this.#calls, fault: armed.rule.fault.kind })
      return armed.rule.fault
    }
    return undefined
  }

  #applies({ rule: { when }, matched }: ArmedRule): boolean {
    switch (when.kind) {
      case "always":
        return true
      case "nth":
        return matched === when.n
      case "every":
        return matched % when.n === 0
      case "call":
        return this.#calls === when.n
      case "chance":
        return this.#random() < when.p
    }
  }

  #call(names: Names, kind: Exclude<DecoratedKind, "stream">, method: PortMethod): PortMethod {
    return (scope, ...rest) => {
      const fault = this.#next(names)
      if (fault === undefined) return method(scope, ...rest)
      return suffer(fault, names[0], kind, scope, () => method(scope, ...rest))
    }
  }

  #stream(names: Names, method: PortMethod): PortMethod {
    const next = () => this.#next(names)
    return (scope, ...rest) =>
      (async function* faulty() {
        const fault = next()
        if (fault !== undefined) await suffer(fault, names[0], "read", scope, () => undefined)
        yield* method(scope, ...rest) as AsyncIterable<unknown>
      })()
  }
}

type Names = readonly [store: string, port: string, method: string]

function matches({ store, port, method }: FaultRule, names: Names): boolean {
  return [store, port, method].every((wanted, index) => wanted === "*" || wanted === names[index])
}

async function suffer(
  fault: Fault,
  store: string,
  kind: Exclude<DecoratedKind, "stream">,
  scope: CallScope,
  work: () => unknown,
): Promise<unknown> {
  switch (fault.kind) {
    case "before":
      throw new DomainError("STORE_UNAVAILABLE", `the store ${store} is away by order of a test`, {
        metadata: { store },
      })
    case "after":
      await work()
      throw lost(store)
    case "delay":
      await pause(fault.ms, scope.signal)
      return work()
    case "hang":
      await aborted(scope.signal)
      if (kind === "write") throw lost(store)
      throw scope.signal.reason instanceof DomainError
        ? scope.signal.reason
        : new DomainError("CANCELLED", "the call ended while the store was working")
  }
}

function lost(store: string): DomainError {
  return new DomainError("OUTCOME_UNKNOWN", `the answer of the store ${store} is lost by order of a test`, {
    metadata: { store },
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }))
}

/** Numbers from 0 to 1 that depend on the seed alone: a counter through a mixer of 32 bits. */
function seededRandom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97)
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32
  }
}
