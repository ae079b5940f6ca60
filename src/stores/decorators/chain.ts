/** Everything around a port, in one order for all stores. */
import type { Breaker, OperationClass } from "./breaker.ts"
import { type Bulkhead, bulkhead } from "./bulkhead.ts"
import { deadline } from "./deadline.ts"
import type { FaultPlan } from "./faults.ts"
import { gate } from "./gate.ts"
import { guard } from "./guard.ts"
import { type OperationSpan, observe, type PortObserver } from "./observe.ts"
import { type RetrySettings, retry } from "./retry.ts"
import type { RetryBudget } from "./retry-budget.ts"
import type { Decorate } from "./wrap.ts"

/** What protects one store; all its ports share it. */
export interface Protection {
  /** Whether the store is usable at all. */
  readonly isOpen: () => boolean
  readonly retry: RetrySettings
  readonly budget: RetryBudget
  readonly breakers: Readonly<Record<OperationClass, Breaker>>
  /** A call that its deadline ended counts against the store only when the store had it for this long. */
  readonly slowMs: number
  readonly bulkheads: Readonly<Record<OperationClass, Bulkhead>>
}

/** What the decorators of one port are made from. */
export interface ChainParts {
  readonly store: string
  readonly port: string
  readonly observer: PortObserver<OperationSpan>
  /** Undefined for an engine in this thread: there is nothing to wait for and nothing to lose. */
  readonly protection: Protection | undefined
  /** Undefined outside of tests. */
  readonly faults: FaultPlan | undefined
}

interface Link {
  readonly why: string
  make(parts: ChainParts): Decorate | undefined
}

/** A link that only stores outside of this thread need. */
const protecting =
  (make: (store: string, protection: Protection) => Decorate): Link["make"] =>
  ({ store, protection }) =>
    protection === undefined ? undefined : make(store, protection)

/** The order, outermost first, each with the reason for its place. */
export const CHAIN: readonly Link[] = [
  {
    why: "sees what callers see: every call once, with all its attempts, and refused ones, too",
    make: ({ store, port, observer }) => observe(store, port, observer),
  },
  {
    why: "a store that has not answered since the start has no call to repeat and nothing to break",
    make: protecting((store, { isOpen }) => gate(store, isOpen)),
  },
  {
    why: "each attempt must be admitted by the breaker, be heard by it, and give its slot back while it waits for the next",
    make: protecting((_store, { retry: settings, budget, breakers }) =>
      retry({ settings, budget, passing: (operationClass) => breakers[operationClass].closed }),
    ),
  },
  {
    why: "refuses before anybody waits in line, and hears of calls that their deadline ended",
    make: protecting((_store, { breakers, slowMs }) => guard(breakers, slowMs)),
  },
  {
    why: "answers in time however long the line or the store takes",
    make: protecting((store) => deadline(store)),
  },
  {
    why: "holds its slot until the store's work has really ended, so nothing that gives up earlier may lie further in",
    make: protecting((_store, { bulkheads }) => bulkhead(bulkheads)),
  },
  {
    why: "plays the store, so everything else has to lie around it",
    make: ({ store, port, faults }) => faults?.decorate(store, port),
  },
]

/** All decorators of a port as one. */
export function chain(parts: ChainParts): Decorate {
  const links = CHAIN.map((link) => link.make(parts)).filter((link) => link !== undefined)
  return (name, kind, method, repeatable) =>
    links.reduceRight((inner, link) => link(name, kind, inner, repeatable), method)
}
